// SPDX-License-Identifier: GPL-2.0-only
/* In place of thread.c, on kernels without its hooks: gates alone. */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/errno.h>
#include <linux/printk.h>
#include "elevation.h"

long elevate(struct elevation **program, struct kelevate_elevation __user *arg)
{
	pr_err_ratelimited("cannot elevate: this kernel has no CONFIG_USER_RETURN_NOTIFIER\n");
	return -EOPNOTSUPP;
}

void put_elevation(struct elevation *e)
{
}

void elevation_exit(void)
{
}
