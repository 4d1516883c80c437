// SPDX-License-Identifier: GPL-2.0-only
/* The kernel's side: its own name, out of its own structure. */
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/utsname.h>
#include "where_kmod.h"

int kernel_release(char *buffer, unsigned long size)
{
	const char *release = init_utsname()->release;
	unsigned long needed = strlen(release) + 1;

	if (needed > size)
		return -ENAMETOOLONG;
	return copy_to_user((char __user *)buffer, release, needed) ? -EFAULT : 0;
}
