/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Counts instructions by the time-stamp counter, which QEMU's -icount makes count them.  One line
 * of output a figure: NAME, a tab, instructions.
 */
#ifndef COST_H
#define COST_H

#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define TIMES 50  /* in a row */
#define ROUNDS 40 /* of which the least is taken: no timer came in between */
#define PAGES 64
#define GAPS 101

static inline uint64_t now(void)
{
	uint32_t low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
	return (uint64_t)high << 32 | low;
}

static inline long system_call(long number, long a, long b)
{
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "0"(number), "D"(a), "S"(b)
			 : "rcx", "r11", "memory");
	return result;
}

static inline long get_parent(void)
{
	return system_call(110, 0, 0); /* getppid: glibc's wrapper has instructions of its own */
}

/* The least of ROUNDS, for one of TIMES. */
#define MEASURE(name, what)                                        \
	do {                                                       \
		uint64_t least = UINT64_MAX;                       \
		for (int round = 0; round < ROUNDS; round++) {     \
			uint64_t start = now(), took;              \
			for (int time = 0; time < TIMES; time++) { \
				what;                              \
			}                                          \
			took = now() - start;                      \
			if (took < least)                          \
				least = took;                      \
		}                                                  \
		printf("%s\t%.1f\n", name, (double)least / TIMES); \
	} while (0)

static inline void page_faults(const char *name)
{
	char *pages = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			   -1, 0);
	uint64_t least = UINT64_MAX;

	madvise(pages, PAGES * 4096, MADV_NOHUGEPAGE);
	for (int round = 0; round < ROUNDS; round++) {
		uint64_t start, took;

		madvise(pages, PAGES * 4096, MADV_DONTNEED);
		pages[0] = 1; /* the page tables */
		start = now();
		for (int page = 1; page < PAGES; page++)
			pages[page * 4096] = 1;
		took = now() - start;
		if (took < least)
			least = took;
	}
	munmap(pages, PAGES * 4096);
	printf("%s\t%.1f\n", name, (double)least / (PAGES - 1));
}

static inline void on_signal(int number)
{
	(void)number;
}

static inline void signals(const char *name)
{
	long self = getpid();

	signal(SIGUSR1, on_signal);
	MEASURE(name, system_call(62, self, SIGUSR1)); /* kill */
}

static int by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* A timer of the kernel's that tells nobody: what its interrupts take from a loop; the median. */
static inline void interrupts(const char *name)
{
	struct sigevent silent = { .sigev_notify = SIGEV_NONE };
	struct itimerspec every = { { 0, 100000 }, { 0, 100000 } };
	static uint64_t gaps[GAPS];
	uint64_t last = now();
	int found = 0;
	timer_t timer;

	if (timer_create(CLOCK_MONOTONIC, &silent, &timer) || timer_settime(timer, 0, &every, NULL))
		exit(2);
	while (found < GAPS) {
		uint64_t next = now();

		if (next - last > 100)
			gaps[found++] = next - last;
		last = now();
	}
	timer_delete(timer);
	qsort(gaps, GAPS, sizeof(gaps[0]), by_size);
	printf("%s\t%llu\n", name, (unsigned long long)gaps[GAPS / 2]);
}

#endif
