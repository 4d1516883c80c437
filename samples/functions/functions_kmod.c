// SPDX-License-Identifier: GPL-2.0-only
/*
 * The two kinds of kernel functions.  A standalone one has an address, and libkernel.so has its
 * name.  An inline one is only in headers: the compiler puts it into the kmod.
 */
#include <linux/cred.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/kallsyms.h>
#include <linux/kernel_stat.h>
#include <linux/sched.h>
#include <linux/sched/stat.h>
#include <linux/uaccess.h>
#include "functions_kmod.h"

int ask_inline_functions(int fd, struct inline_answers *user)
{
	struct inline_answers a = {};
	struct file *file = fget(fd);

	if (!file)
		return -EBADF;
	a.inode = file_inode(file)->i_ino;
	a.size = i_size_read(file_inode(file));
	a.holders = file_count(file);
	a.pid = task_tgid_nr(current);
	a.parent = task_ppid_nr(current);
	a.uid = __kuid_val(current_uid());
	fput(file);
	return copy_to_user((void __user *)user, &a, sizeof(a)) ? -EFAULT : 0;
}

unsigned long ask_kallsyms_lookup_name(const char *name)
{
	char text[KSYM_NAME_LEN];
	long length = strncpy_from_user(text, (const char __user *)name, sizeof(text));

	return length < 0 || length == sizeof(text) ? -EFAULT : kallsyms_lookup_name(text);
}

unsigned long long ask_nr_context_switches(void)
{
	return nr_context_switches();
}

int ask_nr_processes(void)
{
	return nr_processes();
}
