// SPDX-License-Identifier: GPL-2.0-only
/*
 * Brackets: the calling thread's user code in ring 0, from kb_elevate() to kb_lower(); and kernel
 * functions by address.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "internal.h"
#include "kbridge.h"

/*
 * A thread's brackets.  What forks keeps the count, but runs in ring 3: CS tells.  A bracket that
 * found the thread in ring 0 already leaves it there: another bracket's, or a whole program's.
 *
 * Signal handlers have brackets of their own, at any moment of what follows: hence volatile, and
 * the order of the writes.
 */
static __thread struct {
	volatile unsigned int depth;
	volatile unsigned int raised; /* which of them, from 1, went to ring 0; 0: none */
} bracket __attribute__((tls_model("initial-exec")));

/* elevated code's way down; the same in every thread */
static unsigned long lower;

static int in_ring0(void)
{
	unsigned int cs;

	__asm__ volatile("mov %%cs, %0" : "=r"(cs));
	return !(cs & 3);
}

/* Cheap, in a thread that was elevated before: 0 or a negative errno. */
static long again(void)
{
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "0"((long)KELEVATE_AGAIN)
			 : "rcx", "r11", "memory");
	return result;
}

static int ask(void)
{
	struct kelevate_elevation elevation = { 0 };
	int fd = open(KB_DEVICE, O_RDWR | O_CLOEXEC), result, kept;

	if (fd < 0)
		return -1;
	result = ioctl(fd, KELEVATE_ELEVATE, &elevation);
	kept = errno;
	__atomic_store_n(&lower, elevation.lower, __ATOMIC_RELAXED);
	close(fd);
	errno = kept;
	return result;
}

static int go_up(void)
{
	long result = again();

	if (!result)
		return 0;
	if (result != -ENOSYS) {
		errno = (int)-result;
		return -1;
	}
	if (ask())
		return -1;
	if (in_ring0())
		return 0;
	errno = EPERM; /* a signal handler's system calls, or lockdown, came in between */
	return -1;
}

int kb_is_elevated(void)
{
	return in_ring0();
}

int kb_elevate(void)
{
	if (in_ring0()) {
		bracket.depth++;
		return 0;
	}
	if (go_up())
		return -1;
	bracket.depth++;
	bracket.raised = bracket.depth;
	return 0;
}

int kb_lower(void)
{
	unsigned int left = bracket.depth;

	if (!left) {
		errno = EINVAL;
		return -1;
	}
	bracket.depth = --left;
	if (left < bracket.raised) {
		bracket.raised = left;
		if (in_ring0())
			((int (*)(void))__atomic_load_n(&lower, __ATOMIC_RELAXED))();
	}
	return 0;
}

/* A file of the device for kb_call(): the program may have closed it, or made it another. */
static int device = -1;

static int reopen(int stale)
{
	int fd = kb_open_device(), current = __atomic_load_n(&device, __ATOMIC_RELAXED);

	if (fd < 0)
		return -1;
	if (current == stale)
		__atomic_compare_exchange_n(&device, &current, fd, 0, __ATOMIC_RELAXED,
					    __ATOMIC_RELAXED);
	if (current != stale) { /* another thread was quicker */
		close(fd);
		fd = current;
	}
	return fd;
}

static int invoke(struct kelevate_invocation *i)
{
	int fd = __atomic_load_n(&device, __ATOMIC_RELAXED);

	for (;;) {
		if (fd >= 0 && !ioctl(fd, KELEVATE_INVOKE, i))
			return 0;
		if (fd >= 0 && errno != EBADF && errno != ENOTTY)
			return -1;
		fd = reopen(fd);
		if (fd < 0)
			return -1;
	}
}

long kb_call(unsigned long function, ...)
{
	struct kelevate_invocation i = { .function = function };
	int kept = errno, n;
	va_list words;

	va_start(words, function);
	for (n = 0; n < 6; n++)
		i.words[n] = va_arg(words, unsigned long);
	va_end(words);
	if (invoke(&i))
		kb_fail("kb_call", "cannot call a kernel function: ", strerror(errno),
			"it takes CAP_SYS_MODULE, kelevate, and the address of a function");
	errno = kept;
	return (long)i.result;
}
