/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KSYS_WRITE_KMOD_H
#define KSYS_WRITE_KMOD_H

#ifdef __KERNEL__
#include <linux/types.h>
#else
#include <sys/types.h>
#endif

/* As write(2), without the system call; a negative error number instead of errno. */
ssize_t kernel_side_write(unsigned int fd, const char *text, size_t size);

#endif
