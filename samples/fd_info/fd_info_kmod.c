// SPDX-License-Identifier: GPL-2.0-only
/*
 * The kernel's side: current, a kernel structure, an inline function and printk(), as in the
 * paper's Figure 4.8.  Ordinary kernel code: it could stand in a module.
 */
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/printk.h>
#include <linux/sched.h>
#include <linux/uaccess.h>
#include "fd_info_kmod.h"

#ifndef fd_file /* struct fd became opaque in v6.12 */
#define fd_file(f) ((f).file)
#endif

int fd_info(int fd, struct fd_info *info)
{
	struct fd f = fdget(fd);
	struct fd_info found;

	if (!fd_file(f))
		return -EBADF;
	found.pid = current->pid;
	found.position = fd_file(f)->f_pos;
	fdput(f);
	printk(KERN_INFO "For pid %d, FD %d f_pos: %lld\n", found.pid, fd, found.position);
	/* the app's memory: by the rules for user pointers, as anywhere in the kernel */
	return copy_to_user((void __user *)info, &found, sizeof(found)) ? -EFAULT : 0;
}
