// SPDX-License-Identifier: GPL-2.0-only

#include <linux/sched.h>

#include "kernel_threads.h"

bool census_is_kernel_thread(const struct task_struct *task)
{
	return task->flags & PF_KTHREAD;
}
