/* SPDX-License-Identifier: GPL-2.0-only */
/* What bracket.c and bracket_ends.c share: rings, faults that are survived, threads. */
#ifndef BRACKET_H
#define BRACKET_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <kbridge.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "check.h"

#define CR4_SMEP_SMAP 0x300000
#define RING0_CS 0x10
#define RING3_CS 0x33
#define ALTERNATE_SIZE 65536

static inline unsigned int cs(void)
{
	unsigned int value;

	__asm__ volatile("mov %%cs, %0" : "=r"(value));
	return value;
}

/* An instruction that ring 3 may not use. */
static inline unsigned long read_cr4(void)
{
	unsigned long value;

	__asm__ volatile("mov %%cr4, %0" : "=r"(value));
	return value;
}

static __thread sigjmp_buf out;
static __thread volatile int caught_in; /* CS of the handler */

static void jump_out(int number, siginfo_t *info, void *context)
{
	(void)info;
	(void)context;
	caught_in = cs();
	siglongjmp(out, number);
}

/* SIGSEGV ends in `out`, on a stack of its own. */
static inline void survive_faults(void)
{
	struct sigaction action = { .sa_sigaction = jump_out, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	stack_t alternate = { .ss_sp = malloc(ALTERNATE_SIZE), .ss_size = ALTERNATE_SIZE };

	sigaltstack(&alternate, NULL);
	sigaction(SIGSEGV, &action, NULL);
}

/* The signal that the instruction ends in here, or 0. */
static inline int privileged_faults(void)
{
	int number = sigsetjmp(out, 1);

	if (!number)
		read_cr4();
	return number;
}

static inline void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static inline int status_of(pid_t child)
{
	int status;

	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	return status;
}

/* The exit status, or 1000 + the signal. */
static inline int outcome(pid_t child)
{
	int status = status_of(child);

	return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
}

static inline int in_child(int (*work)(void))
{
	pid_t child;

	fflush(stdout);
	child = fork();
	if (!child)
		_exit(work());
	return outcome(child);
}

static inline int in_thread(void *(*work)(void *))
{
	pthread_t thread;
	void *result;

	pthread_create(&thread, NULL, work, NULL);
	pthread_join(thread, &result);
	return (long)result;
}

#endif
