// SPDX-License-Identifier: GPL-2.0-only
/*
 * The program keeps the flow of control: its own loop, a callback of qsort(), a longjmp() and a
 * signal handler decide when it enters the kernel, and what comes next.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include "flow_kmod.h"

#define FILES 6

static volatile unsigned long made; /* calls into the kernel, as the program counts them */
static jmp_buf out;
static sigjmp_buf interrupted;

static unsigned long long ask_ticks(void)
{
	made++;
	return ticks();
}

/* A loop: as long as this program wants, and no longer. */
static unsigned long long wait_for_ticks(unsigned long long wanted)
{
	unsigned long long start = ask_ticks(), now;

	do {
		now = ask_ticks();
	} while (now - start < wanted);
	return now - start;
}

/* libc calls this, and this calls the kernel. */
static int by_position(const void *a, const void *b)
{
	long long left = position(*(const int *)a), right = position(*(const int *)b);

	made += 2;
	return left < right ? -1 : left > right;
}

static int sort_files(void)
{
	static const long moves[FILES] = { 40, 10, 60, 20, 50, 30 };
	int fds[FILES], sorted = 1;

	for (int k = 0; k < FILES; k++) {
		FILE *file = tmpfile();

		if (!file)
			return 0;
		fds[k] = fileno(file);
		lseek(fds[k], moves[k], SEEK_SET);
	}
	qsort(fds, FILES, sizeof(*fds), by_position);
	printf("qsort() by the kernel's word:");
	for (int k = 0; k < FILES; k++) {
		printf(" %ld", (long)lseek(fds[k], 0, SEEK_CUR));
		sorted &= lseek(fds[k], 0, SEEK_CUR) == 10 * (k + 1);
	}
	putchar('\n');
	return sorted;
}

/* Goes down `depth` calls, each of which enters the kernel; the last one jumps out of all. */
static void dive(int depth)
{
	if (!depth)
		return;
	ask_ticks();
	if (depth == 1)
		longjmp(out, 1);
	dive(depth - 1);
}

static unsigned long jump_out(void)
{
	unsigned long before = made;

	if (!setjmp(out))
		dive(10);
	return made - before;
}

static void on_alarm(int number)
{
	made++;
	ticks();
	siglongjmp(interrupted, number);
}

/* An endless loop, which a signal ends. */
static void run_until_alarm(void)
{
	struct itimerspec soon = { .it_value = { 0, 20000000 } };
	timer_t timer;

	signal(SIGALRM, on_alarm);
	if (timer_create(CLOCK_MONOTONIC, NULL, &timer))
		return;
	if (sigsetjmp(interrupted, 1))
		return;
	timer_settime(timer, 0, &soon, NULL);
	for (;;)
		pause();
}

int main(void)
{
	int sorted;

	printf("a loop: %llu ticks passed\n", wait_for_ticks(3));
	sorted = sort_files();
	printf("longjmp() out of 10 calls: %lu into the kernel\n", jump_out());
	run_until_alarm();
	printf("a signal handler entered the kernel and jumped away\n");
	printf("the program made %lu calls, the kmod counted %lu\n", made, calls());
	return sorted && made == calls() ? 0 : 1;
}
