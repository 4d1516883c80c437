// SPDX-License-Identifier: GPL-2.0-only
/*
 * Reads a device that its own kmod registers, and ends with it open; then another process has it
 * open for longer.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>
#include "check.h"
#include "device_kmod.h"

#define NODE "/tmp/kb_device"

static int user(void)
{
	char text[16] = "";
	int fd, high;

	unlink(NODE);
	check("mknod", mknod(NODE, S_IFCHR | 0600, makedev(10, device_minor())), 0);
	fd = open(NODE, O_RDONLY);
	check("read", read(fd, text, sizeof(text)), 16);
	check("what it read", strcmp(text, "from the device"), 0);
	high = dup2(fd, 1000); /* closed after, and before, kelevate's own file */
	check("dup2", high, 1000);
	fflush(stdout);
	return failures;
}

static int registered(void)
{
	return !access("/sys/class/misc/kb_device", F_OK);
}

static void wait_until_gone(void)
{
	for (int k = 0; k < 100 && registered(); k++)
		usleep(20000);
	check("its driver is gone", registered(), 0);
}

/* Ends when `ends` is closed at the other side. */
static pid_t start(int *ends)
{
	char byte = 0;
	pid_t child;

	if (pipe(ends))
		return -1;
	child = fork();
	if (child)
		return child;
	close(ends[1]);
	user();
	_exit(failures || read(ends[0], &byte, 1));
}

int main(void)
{
	char text[16] = "";
	int ends[2], status, fd = -1;
	pid_t child = start(ends);

	close(ends[1]);
	waitpid(child, &status, 0);
	check("a program that leaves the device open", status, 0);
	wait_until_gone();

	child = start(ends);
	for (int k = 0; k < 100 && fd < 0; k++) {
		usleep(20000);
		fd = registered() ? open(NODE, O_RDONLY) : -1;
	}
	close(ends[1]);
	waitpid(child, &status, 0);
	check("a program whose device another one has open", status, 0);
	usleep(200000);
	check("its driver is there", registered(), 1);
	check("and works", read(fd, text, sizeof(text)), 16);
	close(fd);
	wait_until_gone();
	return failures != 0;
}
