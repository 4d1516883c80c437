/* SPDX-License-Identifier: GPL-2.0-only */
/* For the compiler alone: app and kmod agree on it. */
#ifndef FD_INFO_KMOD_H
#define FD_INFO_KMOD_H

struct fd_info {
	int pid;
	long long position; /* bytes from the file's start */
};

/* What the kernel knows of open file `fd`, also printed to the kernel log; 0, or -EBADF. */
int fd_info(int fd, struct fd_info *info);

#endif
