// SPDX-License-Identifier: GPL-2.0-only
/*
 * faults CONTEXT FAULT: makes a fault of faults_kmod.c.  "faults gate task" makes none.
 *
 * A context is how the program comes to be in ring 0.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "faults_kmod.h"

#define PAGE 4096
#define RET 0xc3

typedef int (*fault)(void *page);

static const struct {
	const char *name;
	fault function;
} faults[] = {
#define NAME_FAULT(name) { #name, name },
	FAULTS(NAME_FAULT)
};

static void *page;

/* ---- contexts ---- */

static int from_gate(fault make)
{
	return make(page);
}

static void *thread(void *make)
{
	return (void *)(long)((fault)make)(page);
}

/* From one of several threads; the others would wait for it for ever. */
static int from_thread(fault make)
{
	pthread_t other;

	if (pthread_create(&other, NULL, thread, make))
		return 1;
	for (;;)
		pause();
}

static const struct {
	const char *name;
	int (*run)(fault make);
} contexts[] = {
	{ "gate", from_gate },
	{ "thread", from_thread },
};

/* ---- what is not one call ---- */

/* The child's locks are the parent's: they share the image.  Ends as the child did. */
static int leave_locked(int (*run)(fault make), fault make)
{
	pid_t child;
	int status;

	if (locks_held())
		return 1;
	child = fork();
	if (!child)
		_exit(run(make));
	waitpid(child, &status, 0);
	printf("locks that nobody will free: %d\n", locks_held());
	fflush(stdout);
	if (WIFSIGNALED(status))
		kill(getpid(), WTERMSIG(status));
	return WEXITSTATUS(status);
}

static int run(int (*context)(fault make), const char *name)
{
	if (!strcmp(name, "task"))
		return task() != getpid();
	for (size_t k = 0; k < sizeof(faults) / sizeof(*faults); k++)
		if (!strcmp(name, faults[k].name))
			return strstr(name, "_held") ? leave_locked(context, faults[k].function)
						     : context(faults[k].function);
	fprintf(stderr, "no fault %s\n", name);
	return 2;
}

int main(int argc, char **argv)
{
	int access = PROT_READ | PROT_WRITE | PROT_EXEC;

	if (argc != 3)
		return 2;
	page = mmap(NULL, PAGE, access, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(page, RET, PAGE);
	task(); /* the image is loaded */
	for (size_t k = 0; k < sizeof(contexts) / sizeof(*contexts); k++)
		if (!strcmp(argv[1], contexts[k].name))
			return run(contexts[k].run, argv[2]);
	fprintf(stderr, "no context %s\n", argv[1]);
	return 2;
}
