// SPDX-License-Identifier: GPL-2.0-only
/* Ends while a timer of its kmod runs, twice; the kernel goes on calling what it left behind. */
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include "check.h"
#include "forgotten_kmod.h"

static int child(void)
{
	start();
	usleep(100000);
	return called() > 5 ? 0 : 1;
}

int main(void)
{
	glob_t left;

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (int i = 0; i < 2; i++) {
		int status;
		pid_t pid = fork();

		if (!pid)
			exit(child());
		waitpid(pid, &status, 0);
		check("timer of a child", status, 0);
		usleep(200000);
	}
	check("glob", glob("/sys/module/kb:forgotten-*", 0, NULL, &left), 0);
	check("both left in memory", left.gl_pathc, 2);
	return failures != 0;
}
