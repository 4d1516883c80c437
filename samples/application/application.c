// SPDX-License-Identifier: GPL-2.0-only
/*
 * The full application context: threads, floating point, malloc, stdio, thread-local variables and
 * signals, with calls into the kernel in the midst of it all.
 */
#define _GNU_SOURCE
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#include "application_kmod.h"

#define THREADS 4
#define TERMS 200000 /* of the series for pi */
#define CALLS 500    /* into the kernel, by each thread on its way */

struct work {
	pthread_t thread;
	int number, tid;
	unsigned int calls, mistakes;
	double pi;
	struct thread *seen; /* on the heap; the kernel writes it */
};

static volatile sig_atomic_t signals;
static _Thread_local unsigned int calls;

static void on_alarm(int number)
{
	(void)number;
	signals++;
}

/* Sums pi, half of it in between two calls into the kernel: no register may get lost. */
static double sum(struct work *w, int with_kernel)
{
	double pi = 0;

	for (int k = 0; k < TERMS; k++) {
		pi += (k % 2 ? -4.0 : 4.0) / (2.0 * k + 1);
		if (!with_kernel || k % (TERMS / CALLS))
			continue;
		calls++;
		if (who_am_i(w->seen) || w->seen->pid != w->tid || w->seen->group != getpid())
			w->mistakes++;
	}
	return pi;
}

static void *run(void *argument)
{
	struct work *w = argument;
	char name[16];

	snprintf(name, sizeof(name), "worker %d", w->number);
	pthread_setname_np(pthread_self(), name);
	w->tid = gettid();
	w->seen = calloc(1, sizeof(*w->seen));
	if (!w->seen)
		return NULL;
	w->pi = sum(w, 1);
	w->calls = calls;
	if (strcmp(w->seen->name, name))
		w->mistakes++;
	return w;
}

static int latest_first(const void *a, const void *b)
{
	unsigned long long left = ((const struct work *)a)->seen->run_time;
	unsigned long long right = ((const struct work *)b)->seen->run_time;

	return left < right ? 1 : left > right ? -1 : 0;
}

/* Whether the kernel's clock of this thread lies between two looks at libc's. */
static int clocks_agree(void)
{
	struct timespec before, after;
	struct thread now; /* on the stack */
	unsigned long long low, high;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
	if (who_am_i(&now))
		return 0;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
	low = (unsigned long long)before.tv_sec * 1000000000 + (unsigned long long)before.tv_nsec;
	high = (unsigned long long)after.tv_sec * 1000000000 + (unsigned long long)after.tv_nsec;
	return low <= now.run_time && now.run_time <= high;
}

int main(void)
{
	struct itimerval every_ms = { { 0, 1000 }, { 0, 1000 } }, stop = {};
	struct sigaction action = { .sa_handler = on_alarm, .sa_flags = SA_RESTART };
	struct work work[THREADS] = {};
	double alone;
	unsigned int mistakes = 0;

	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &every_ms, NULL);
	for (int k = 0; k < THREADS; k++) {
		work[k].number = k;
		if (pthread_create(&work[k].thread, NULL, run, &work[k]))
			return 1;
	}
	for (int k = 0; k < THREADS; k++) {
		void *result;

		pthread_join(work[k].thread, &result);
		if (!result)
			return 1;
	}
	setitimer(ITIMER_REAL, &stop, NULL);
	alone = sum(NULL, 0);
	qsort(work, THREADS, sizeof(*work), latest_first);
	for (int k = 0; k < THREADS; k++) {
		struct work *w = &work[k];

		printf("%s: thread %d of process %d, %u calls, %.3f ms, pi = %.9f\n", w->seen->name,
		       w->seen->pid, w->seen->group, w->calls, (double)w->seen->run_time / 1e6,
		       w->pi);
		mistakes += w->mistakes + (w->calls != CALLS) + (memcmp(&w->pi, &alone, 8) != 0);
		free(w->seen);
	}
	printf("pi without the kernel = %.9f, off by %.1e\n", alone, fabs(alone - M_PI));
	printf("%s signals, %u mistakes, the clocks %s\n", signals ? "some" : "no", mistakes,
	       clocks_agree() ? "agree" : "DIFFER");
	return !mistakes && signals && calls == 0 ? 0 : 1;
}
