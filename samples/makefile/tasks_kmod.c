// SPDX-License-Identifier: GPL-2.0-only
/* Counts from the kernel's own list; total_forks and nr_threads are for no module. */
#include <linux/rcupdate.h>
#include <linux/sched/signal.h>
#include <linux/sched/stat.h>
#include "tasks_kmod.h"

int count_processes(void)
{
	struct task_struct *task;
	int count = 0;

	rcu_read_lock();
	for_each_process(task)
		count++;
	rcu_read_unlock();
	return count;
}

int count_threads(void)
{
	return nr_threads;
}

unsigned long count_forks(void)
{
	return total_forks;
}
