// SPDX-License-Identifier: GPL-2.0-only
/*
 * Types of the kernel (struct file, struct file_operations: the paper's Figure 4.7) and its
 * macros: container_of(), S_ISSOCK(), IS_ENABLED(), HZ, THREAD_SIZE ...
 */
#include <linux/container_of.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/jiffies.h>
#include <linux/kconfig.h>
#include <linux/kernel.h>
#include <linux/sched.h>
#include <linux/stat.h>
#include <linux/threads.h>
#include <linux/uaccess.h>
#include <net/sock.h>
#include "types_macros_kmod.h"

static int driver_type(struct inode *inode)
{
	struct socket_alloc *both;

	if (!S_ISSOCK(inode->i_mode))
		return -1;
	/* a socket's inode is a member of a larger structure, of which the socket is another */
	both = container_of(inode, struct socket_alloc, vfs_inode);
	return both->socket.ops->family;
}

int ask_file(int fd, struct file_answers *user)
{
	struct file *file = fget(fd);
	const struct file_operations *operations;
	struct file_answers a = {};
	unsigned long read;

	if (!file)
		return -EBADF;
	operations = file->f_op;
	/* a file can be read in one way or another: it is the type's pointers that say which */
	read = (unsigned long)operations->read ?: (unsigned long)operations->read_iter;
	a.operations = (unsigned long)operations;
	a.read = read;
	a.write = (unsigned long)operations->write ?: (unsigned long)operations->write_iter;
	a.poll = (unsigned long)operations->poll;
	a.map = (unsigned long)operations->mmap;
	a.opened_for_reading = !!(file->f_mode & FMODE_READ);
	a.driver_type = driver_type(file_inode(file));
	fput(file);
	snprintf(a.operations_name, sizeof(a.operations_name), "%ps", (void *)a.operations);
	snprintf(a.read_name, sizeof(a.read_name), "%ps", (void *)read);
	return copy_to_user((void __user *)user, &a, sizeof(a)) ? -EFAULT : 0;
}

int ask_layouts(struct layout_answers *user)
{
	struct layout_answers a = {
		.size_task = sizeof(struct task_struct),
		.size_file = sizeof(struct file),
		.size_operations = sizeof(struct file_operations),
		.offset_pid = offsetof(struct task_struct, pid),
		.offset_comm = offsetof(struct task_struct, comm),
		.offset_read = offsetof(struct file_operations, read_iter),
		.hz = HZ,
		.nr_cpus = NR_CPUS,
		.thread_size = THREAD_SIZE,
		.page_offset = PAGE_OFFSET,
		.task_comm_len = TASK_COMM_LEN,
		.has_5level = IS_ENABLED(CONFIG_X86_5LEVEL),
	};

	return copy_to_user((void __user *)user, &a, sizeof(a)) ? -EFAULT : 0;
}
