// SPDX-License-Identifier: GPL-2.0-only
/* A few words on the thread that calls.  What is special about this sample is in the app. */
#include <linux/sched.h>
#include <linux/sched/cputime.h>
#include <linux/uaccess.h>
#include "application_kmod.h"

int who_am_i(struct thread *user)
{
	struct thread thread = {
		.pid = task_pid_nr(current),
		.group = task_tgid_nr(current),
		.run_time = task_sched_runtime(current),
	};

	get_task_comm(thread.name, current);
	return copy_to_user((void __user *)user, &thread, sizeof(thread)) ? -EFAULT : 0;
}
