// SPDX-License-Identifier: GPL-2.0-only
/*
 * faults CONTEXT FAULT: makes a fault of faults_kmod.c.  "faults gate task" makes none.
 *
 * A context is how the program comes to be in ring 0.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../../../kernel/kelevate/kelevate.h"
#include "../../../runtime/kbridge.h"
#include "faults_kmod.h"

#define DEVICE "/dev/kelevate"
#define AGAIN "again"
#define NONCANONICAL 0x1234567890abcdeful
#define PAGE 4096
#define RET 0xc3

typedef int (*fault)(void *page);

/* ---- faults of the app's own code, which is in ring 0 in some contexts ---- */

static void *hidden(unsigned long address)
{
	__asm__ volatile("" : "+r"(address));
	return (void *)address;
}

static int own_null_read(void *page)
{
	(void)page;
	return *(volatile int *)hidden(0);
}

static int own_null_write(void *page)
{
	(void)page;
	return *(volatile int *)hidden(0) = 1;
}

static int own_null_call(void *page)
{
	return ((fault)hidden(0))(page) + 1;
}

static int own_divide(void *page)
{
	return 100 / (int)(long)hidden((long)page & 1);
}

static int own_invalid_opcode(void *page)
{
	(void)page;
	__asm__ volatile("ud2");
	return 0;
}

static int own_breakpoint(void *page)
{
	(void)page;
	__asm__ volatile("int3");
	return 0;
}

static int own_noncanonical_read(void *page)
{
	(void)page;
	return *(volatile int *)hidden(NONCANONICAL);
}

static int own_noncanonical_call(void *page)
{
	return ((fault)hidden(NONCANONICAL))(page) + 1;
}

/* Present, and read-only. */
static int own_write_kernel_constant(void *page)
{
	(void)page;
	return *(volatile char *)kb_symbol("linux_banner") = 'l';
}

/* No stack for whatever comes next. */
static int own_stack_lost(void *page)
{
	(void)page;
	__asm__ volatile("xor %%esp, %%esp; push %%rax; ud2" ::: "memory");
	return 0;
}

static const struct {
	const char *name;
	fault function;
} faults[] = {
#define OWN(name) { "own_" #name, own_##name }
	OWN(null_read),
	OWN(null_write),
	OWN(null_call),
	OWN(divide),
	OWN(invalid_opcode),
	OWN(breakpoint),
	OWN(noncanonical_read),
	OWN(noncanonical_call),
	OWN(write_kernel_constant),
	OWN(stack_lost),
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

static int from_bracket(fault make)
{
	int result;

	if (kb_elevate()) {
		perror("kb_elevate");
		return 1;
	}
	if (!kb_is_elevated())
		return 1;
	result = make(page);
	kb_lower();
	return result;
}

/* As kbridge elevate does it: the program that it starts, this one again, is in ring 0. */
static int in_ring0_from_exec(char **argv)
{
	struct kelevate_elevation elevation = { .flags = KELEVATE_PROGRAM };
	int fd = open(DEVICE, O_RDWR | O_CLOEXEC);

	if (ioctl(fd, KELEVATE_ELEVATE, &elevation)) {
		perror("KELEVATE_ELEVATE");
		return 1;
	}
	argv[0] = AGAIN;
	execv("/proc/self/exe", argv);
	return 1;
}

static const struct {
	const char *name;
	int (*run)(fault make);
} contexts[] = {
	{ "gate", from_gate },
	{ "thread", from_thread },
	{ "bracket", from_bracket },
	{ "program", from_gate },
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
	if (!strcmp(argv[1], "program") && !kb_is_elevated())
		return strcmp(argv[0], AGAIN) ? in_ring0_from_exec(argv) : 1;
	page = mmap(NULL, PAGE, access, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(page, RET, PAGE);
	task(); /* the image is loaded */
	for (size_t k = 0; k < sizeof(contexts) / sizeof(*contexts); k++)
		if (!strcmp(argv[1], contexts[k].name))
			return run(contexts[k].run, argv[2]);
	fprintf(stderr, "no context %s\n", argv[1]);
	return 2;
}
