// SPDX-License-Identifier: GPL-2.0-only
/* Names kernel symbols, as any kernel code does.  ld.so binds them when the program starts. */
#include <linux/init.h>
#include <linux/minmax.h>
#include <linux/printk.h>
#include <linux/sched/task.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include "linking_kmod.h"

extern ssize_t ksys_write(unsigned int fd, const char __user *buf, size_t count);

int read_named(struct named *user, char *text, unsigned long size)
{
	struct named named = {
		.ksys_write = (unsigned long)ksys_write,
		.memcpy = (unsigned long)memcpy,
		.init_task = (unsigned long)&init_task,
		.linux_banner = (unsigned long)linux_banner,
	};

	if (copy_to_user((void __user *)text, linux_banner, min(size, strlen(linux_banner) + 1)))
		return -EFAULT;
	return copy_to_user((void __user *)user, &named, sizeof(named)) ? -EFAULT : 0;
}
