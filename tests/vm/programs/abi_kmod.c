// SPDX-License-Identifier: GPL-2.0-only
/* Uses a structure, an exported symbol, and a function that is not exported. */
#include <linux/printk.h>
#include <linux/sched.h>
#include <linux/sched/stat.h>
#include "abi_kmod.h"

int own_pid(void)
{
	pr_info("abi: pid %d\n", current->pid);
	return current->pid;
}

int processes(void)
{
	return nr_processes();
}
