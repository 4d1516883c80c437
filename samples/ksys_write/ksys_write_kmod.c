// SPDX-License-Identifier: GPL-2.0-only
/*
 * Calls ksys_write(), the heart of write(2), which the kernel does not export to modules.
 * kbridge links against every symbol that kallsyms lists.
 */
#include "ksys_write_kmod.h"

extern ssize_t ksys_write(unsigned int fd, const char __user *buf, size_t count);

ssize_t kernel_side_write(unsigned int fd, const char *text, size_t size)
{
	/* the buffer is the app's: a literal of the kmod would be kernel memory, and refused */
	return ksys_write(fd, (const char __user *)text, size);
}
