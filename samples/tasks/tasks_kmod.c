// SPDX-License-Identifier: GPL-2.0-only
/* The kernel's own list of processes, read where it is: struct task_struct, for_each_process(). */
#include <linux/cred.h>
#include <linux/mm.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include "tasks_kmod.h"

#define MOST 100000

/* Inside rcu_read_lock(): the task cannot go away, but its memory can, under task_lock(). */
static void read_task(struct task_struct *from, struct task *to)
{
	to->pid = task_pid_nr(from);
	to->parent = task_ppid_nr(from);
	to->uid = from_kuid(&init_user_ns, task_uid(from));
	to->threads = get_nr_threads(from);
	to->state = task_state_to_char(from);
	task_lock(from);
	to->resident = from->mm ? get_mm_rss(from->mm) << PAGE_SHIFT : 0;
	strscpy(to->name, from->comm, sizeof(to->name));
	task_unlock(from);
}

int read_tasks(struct task *user, int room)
{
	struct task_struct *task;
	struct task *tasks;
	int count = 0;

	if (room < 1 || room > MOST)
		return -EINVAL;
	tasks = kvcalloc(room, sizeof(*tasks), GFP_KERNEL);
	if (!tasks)
		return -ENOMEM;
	rcu_read_lock();
	for_each_process(task) {
		if (count < room)
			read_task(task, tasks + count);
		count++;
	}
	rcu_read_unlock();
	/* after the lock: this may sleep */
	if (copy_to_user((void __user *)user, tasks, min(room, count) * sizeof(*tasks)))
		count = -EFAULT;
	kvfree(tasks);
	return count;
}
