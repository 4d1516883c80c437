// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the kernel's services cost a process that never elevates: with the module loaded and
 * unused, after another process was elevated and ended, and without the module.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <kelevate.h>
#include "cost.h"

/* Two processes hand a byte back and forth. */
static void switches(const char *name)
{
	int to[2], from[2];
	char byte = 0;
	pid_t child;

	if (pipe(to) || pipe(from))
		exit(2);
	child = fork();
	if (!child) {
		close(to[1]); /* the end of the other ends this one */
		while (read(to[0], &byte, 1) == 1)
			if (write(from[1], &byte, 1) != 1)
				break;
		_exit(0);
	}
	MEASURE(name, if (write(to[1], &byte, 1) != 1 || read(from[0], &byte, 1) != 1) exit(2));
	close(to[1]);
	waitpid(child, NULL, 0);
	close(to[0]);
	close(from[0]);
	close(from[1]);
}

static void services(const char *when)
{
	char name[64];

	snprintf(name, sizeof(name), "getppid, %s", when);
	MEASURE(name, get_parent());
	snprintf(name, sizeof(name), "page fault, %s", when);
	page_faults(name);
	snprintf(name, sizeof(name), "signal, %s", when);
	signals(name);
	snprintf(name, sizeof(name), "interrupt, %s", when);
	interrupts(name);
	snprintf(name, sizeof(name), "switch to a process and back, %s", when);
	switches(name);
}

static void elevate_another(void)
{
	struct kelevate_elevation elevation = { 0 };
	pid_t child = fork();

	if (!child) {
		int fd = open("/dev/kelevate", O_RDWR);

		_exit(ioctl(fd, KELEVATE_ELEVATE, &elevation) || get_parent() < 0);
	}
	waitpid(child, NULL, 0);
}

static void unload(void)
{
	int tries = 0;

	while (syscall(SYS_delete_module, "kelevate", O_NONBLOCK)) {
		if (tries++ > 100) {
			fprintf(stderr, "kelevate does not unload: %s\n", strerror(errno));
			exit(1);
		}
		usleep(10000);
	}
}

int main(void)
{
	services("warming up"); /* the first round of each pays for caches of the kernel's */
	services("module loaded");
	elevate_another();
	sleep(1); /* until nothing of it is left */
	services("module used before");
	unload();
	services("no module");
	return 0;
}
