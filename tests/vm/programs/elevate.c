// SPDX-License-Identifier: GPL-2.0-only
/*
 * elevate [-i] [-t] [-w MASK] PROG ARGS: runs PROG in ring 0, as kbridge elevate does where
 * there is Python, and says on standard error how it ended and where timer interrupts found it.
 * -i: KELEVATE_INHERIT.  -w: adaptors to leave out.  -t: on a terminal, whose user presses
 * Ctrl-C and Ctrl-Z where PROG says "press C" and "press Z".
 */
#include <err.h>
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <kelevate.h>

static struct kelevate_elevation how = { .flags = KELEVATE_PROGRAM };
static volatile sig_atomic_t child;

static void pass_on(int number)
{
	kill(child, number);
}

static void be_user(int terminal)
{
	char text[1024];
	ssize_t size;

	while ((size = read(terminal, text, sizeof(text) - 1)) > 0) {
		text[size] = 0;
		fputs(text, stdout);
		fflush(stdout);
		if (!strstr(text, "press"))
			continue;
		usleep(500000);
		if (write(terminal, strstr(text, "press Z") ? "\032" : "\003", 1) != 1)
			err(125, "terminal");
	}
}

int main(int argc, char **argv)
{
	int device = open("/dev/kelevate", O_RDWR | O_CLOEXEC), option, status, terminal = -1;
	struct kelevate_counts counts;

	if (device < 0)
		err(125, "/dev/kelevate");
	while ((option = getopt(argc, argv, "+itw:")) > 0) {
		if (option == 'i')
			how.flags |= KELEVATE_INHERIT;
		else if (option == 't')
			terminal = 0;
		else if (option == 'w')
			how.without = strtoul(optarg, NULL, 0);
		else
			return 125;
	}
	child = terminal ? fork() : forkpty(&terminal, NULL, NULL, NULL);
	if (!child) {
		if (ioctl(device, KELEVATE_ELEVATE, &how))
			err(125, "KELEVATE_ELEVATE");
		execvp(argv[optind], argv + optind);
		err(127, "%s", argv[optind]);
	}
	signal(SIGTERM, pass_on);
	if (terminal > 0)
		be_user(terminal);
	while (waitpid(child, &status, 0) < 0)
		;
	if (ioctl(device, KELEVATE_COUNT, &counts))
		err(125, "KELEVATE_COUNT");
	fprintf(stderr, "counts %llu %llu %llu threads %llu\n", counts.ticks[KELEVATE_TICK_RING0],
		counts.ticks[KELEVATE_TICK_RING3], counts.ticks[KELEVATE_TICK_KERNEL],
		counts.threads);
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
