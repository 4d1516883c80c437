// SPDX-License-Identifier: GPL-2.0-only
/* Starts a timer that nobody ever stops: there is no module_exit(). */
#include <linux/module.h>
#include <linux/timer.h>
#include "forgotten_kmod.h"

static struct timer_list timer;
static long calls;

static void on_timer(struct timer_list *unused)
{
	calls++;
	mod_timer(&timer, jiffies + 1);
}

int start(void)
{
	timer_setup(&timer, on_timer, 0);
	return mod_timer(&timer, jiffies + 1);
}

long called(void)
{
	return READ_ONCE(calls);
}

MODULE_LICENSE("GPL");
