// SPDX-License-Identifier: GPL-2.0-only

#include <linux/rcupdate.h>
#include <linux/sched/signal.h>

#include "census.h"
#include "kernel_threads.h"

struct census census_take(void)
{
	struct census now = {};
	struct task_struct *task;

	rcu_read_lock();
	for_each_process(task) {
		now.processes++;
		now.kernel_threads += census_is_kernel_thread(task);
	}
	rcu_read_unlock();
	return now;
}
