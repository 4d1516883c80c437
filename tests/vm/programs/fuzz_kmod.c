// SPDX-License-Identifier: GPL-2.0-only
/* A real image with something in many tables, for fuzz.c to send; only five() is ever called. */
#include <linux/bug.h>
#include <linux/jump_label.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/percpu.h>
#include <linux/sched.h>
#include <linux/srcu.h>
#include "fuzz_kmod.h"

static DEFINE_PER_CPU(long, hits);
static DEFINE_STATIC_KEY_FALSE(key);
static int size = 5;
module_param(size, int, 0444);
DEFINE_STATIC_SRCU(readers);

int five(void)
{
	return size;
}

int counted(void)
{
	int index = srcu_read_lock(&readers);

	WARN_ON(this_cpu_inc_return(hits) < 0);
	if (static_branch_unlikely(&key))
		pr_info("fuzz: %s\n", current->comm);
	srcu_read_unlock(&readers, index);
	return 0;
}

/* or the image, which the kernel might call, would stay in memory */
static void __exit over(void)
{
}

module_exit(over);
