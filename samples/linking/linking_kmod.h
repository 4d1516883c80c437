/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef LINKING_KMOD_H
#define LINKING_KMOD_H

/* What the kmod's own code takes for four kernel symbols: addresses. */
struct named {
	unsigned long ksys_write, memcpy;      /* functions; libc has a memcpy, too */
	unsigned long init_task, linux_banner; /* data */
};

/* Fills `user`, and `text` with what linux_banner says; 0, or -EFAULT. */
int read_named(struct named *user, char *text, unsigned long size);

#endif
