/* SPDX-License-Identifier: GPL-2.0-only */
/* What programs ask of the machine beside C's library. */
#ifndef MACHINE_H
#define MACHINE_H

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* A 32-bit system call, by a 64-bit program. */
static inline long int80(long number, long a, long b, long c)
{
	__asm__ volatile("int $0x80"
			 : "+a"(number)
			 : "b"(a), "c"(b), "d"(c)
			 : "memory", "r8", "r9", "r10", "r11");
	return (int)number;
}

/* Write a file of /proc or /sys: 0 or errno. */
static inline int put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY), error;

	if (fd < 0)
		return errno;
	error = write(fd, text, strlen(text)) < 0 ? errno : 0;
	close(fd);
	return error;
}

#endif
