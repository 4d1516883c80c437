/* SPDX-License-Identifier: GPL-2.0-only */
/* The program's own struct kelevate_image, and ioctls by hand: what libkbridge would not do. */
#ifndef RAW_H
#define RAW_H

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "../../../kernel/kelevate/kelevate.h"

#define DEVICE "/dev/kelevate"

/* The head of the one in runtime/image.h. */
struct kb_image {
	long fd, lock, mapped;
	const char *release, *build_id;
	struct kelevate_image image;
};

static struct kb_image *own;

/* In place of libkbridge's, which it calls. */
void kb_register(struct kb_image *program)
{
	void (*real)(struct kb_image *) = dlsym(RTLD_NEXT, "kb_register");

	own = program;
	real(program);
}

/* 0 or errno */
static inline int raw(int fd, unsigned long command, unsigned long arg)
{
	return ioctl(fd, command, arg) < 0 ? errno : 0;
}

/* A gate, also one that is not there: 0 or errno. */
static inline int raw_gate(int fd, unsigned long which)
{
	return lseek(fd, which, KELEVATE_CALL) < 0 ? errno : 0;
}

#endif
