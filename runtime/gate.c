// SPDX-License-Identifier: GPL-2.0-only
/*
 * Sets an image up at its first gate, and again when the program has closed all its files.
 *
 * The open file of /dev/kelevate is the instance: fork shares it, exec drops it, the last exit
 * frees it.  The process also maps the instance over its own copy of the image, read-only; that
 * mapping keeps the instance alive, and finds it again, when the file is gone.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include "internal.h"

#define HIGH_FD 900 /* out of the way of programs that count on low numbers */

/* Who holds a lock: after fork() the child must not wait for a thread that it does not have. */
static unsigned long owner(void)
{
	return (unsigned long)getpid() << 32 | (unsigned int)gettid();
}

/* With signals blocked, or a handler's gate would wait for the thread that it interrupted. */
static void lock(struct kb_image *program, sigset_t *before)
{
	unsigned long me = owner(), seen = 0;
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, before);
	while (!__atomic_compare_exchange_n(&program->lock, &seen, me, 0, __ATOMIC_ACQUIRE,
					    __ATOMIC_RELAXED)) {
		if (seen >> 32 == me >> 32) {
			sched_yield();
			seen = 0;
		}
	}
}

static void unlock(struct kb_image *program, const sigset_t *before)
{
	__atomic_store_n(&program->lock, 0, __ATOMIC_RELEASE);
	pthread_sigmask(SIG_SETMASK, before, NULL);
}

int kb_open_device(void)
{
	int low = open(KB_DEVICE, O_RDWR | O_CLOEXEC), fd;

	if (low < 0)
		return -1;
	fd = fcntl(low, F_DUPFD_CLOEXEC, HIGH_FD);
	if (fd < 0)
		return low; /* RLIMIT_NOFILE is below: any number does */
	close(low);
	return fd;
}

static void open_device(struct kb_image *program)
{
	int fd = kb_open_device();

	if (fd < 0) {
		const char *hint = "run it with kbridge run, or load the kelevate module";

		if (errno == EPERM || errno == EACCES)
			hint = "only holders of CAP_SYS_MODULE may elevate: run it as root";
		else if (errno == EMFILE || errno == ENFILE)
			hint = "allow more open files: ulimit -n";
		kb_fail(program->image.name, "cannot open " KB_DEVICE ": ", strerror(errno), hint);
	}
	__atomic_store_n(&program->fd, fd, __ATOMIC_RELEASE);
}

/* 0 also where the file holds the image already; ENOTTY where it holds another. */
static int load_with(struct kb_image *program, const char *args)
{
	struct kelevate_image image = program->image;

	image.args = (uintptr_t)args;
	return ioctl(program->fd, KELEVATE_LOAD, &image) < 0 ? errno : 0;
}

static int load(struct kb_image *program)
{
	/* not on the stack, which may be a small one of a thread or a signal handler */
	char *args = mmap(NULL, KELEVATE_MAX_ARGS, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int error;

	if (args == MAP_FAILED)
		return errno;
	kb_params(program->image.name, args, KELEVATE_MAX_ARGS);
	error = load_with(program, args);
	if (*args && (error == EINVAL || error == ERANGE || error == ENOSPC))
		kb_fail(program->image.name, "cannot load its kernel part: ", strerror(error),
			"is a value in KBRIDGE_PARAMS wrong? the kernel log (dmesg) says more");
	munmap(args, KELEVATE_MAX_ARGS);
	return error;
}

/* The program closed every file: its mapping still knows the instance. */
static int attach(struct kb_image *program)
{
	return ioctl(program->fd, KELEVATE_ATTACH, program->image.content) < 0 ? errno : 0;
}

static void map(struct kb_image *program)
{
	void *image = (void *)(uintptr_t)program->image.content;

	if (program->mapped)
		return;
	if (mmap(image, program->image.end, PROT_READ, MAP_SHARED | MAP_FIXED, program->fd, 0) ==
	    MAP_FAILED)
		kb_fail(program->image.name, "cannot map its kernel part: ", strerror(errno),
			"report this: it should not happen");
	program->mapped = 1;
}

static void set_up(struct kb_image *program)
{
	int error = program->fd < 0 ? EBADF : load(program);

	if (error == EBADF || error == ENOTTY) { /* no file of ours, or no more */
		open_device(program);
		error = program->mapped ? attach(program) : load(program);
		if (error == EEXIST) /* mapped, and a fork came before that was noted */
			error = attach(program);
	}
	if (error == EPERM)
		kb_fail(program->image.name, "may not load kernel code: ", strerror(error),
			"it takes CAP_SYS_MODULE, no lockdown and kernel.modules_disabled=0");
	if (error == ESTALE)
		kb_fail(program->image.name,
			"libkernel.so has the kernel's addresses of another boot", "",
			"make it again: rm -rf /run/kbridge, then kbridge run PROGRAM");
	if (error == EPROTO)
		kb_fail(program->image.name, "built by another version of kbridge than kelevate",
			"", "build it again");
	if (error)
		kb_fail(program->image.name, "cannot load its kernel part: ", strerror(error),
			"the kernel log (dmesg) says more");
	map(program);
}

void kb_first_gate(struct kb_image *program, long result)
{
	int kept = errno; /* a gate is no library call: a signal handler may make the first one */
	sigset_t before;

	if (result == -EPERM)
		kb_fail(program->image.name, "may not enter the kernel: ", strerror(EPERM),
			"only holders of CAP_SYS_MODULE may elevate, and nobody under lockdown");
	if (result == -ECANCELED)
		kb_fail(program->image.name, "its module_init() failed", "",
			"the kernel log says with which error: dmesg, or kbridge run --verbose");
	/* what else it may be comes of a file that is none of ours */
	if (result == -EFAULT || result == -ENOMEM || result == -ERANGE)
		kb_fail(program->image.name, "a gate failed: ", strerror((int)-result),
			"the kernel log (dmesg) says more");
	lock(program, &before);
	set_up(program);
	unlock(program, &before);
	errno = kept;
}

void kb_unregister(struct kb_image *program)
{
	/* the number may be another file's by now: ours says 0 to its own image */
	if (program->mapped && program->fd >= 0 && !load_with(program, NULL)) {
		close(program->fd);
		program->fd = -1;
	}
}
