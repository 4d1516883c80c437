// SPDX-License-Identifier: GPL-2.0-only
/*
 * Faults where no gate is: in what the kernel calls by itself, in module_init(), module_exit().
 * The parameter faults_in says which of the latter.
 */
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/smp.h>
#include <linux/string.h>
#include <linux/timer.h>
#include <linux/workqueue.h>
#include "faults_later_kmod.h"

static char *faults_in = "";
module_param(faults_in, charp, 0);

static noinline int null_read(void)
{
	void *null = NULL;

	OPTIMIZER_HIDE_VAR(null);
	return *(volatile int *)null;
}

int nothing(void)
{
	return 0;
}

static void in_timer(struct timer_list *unused)
{
	null_read();
}

static DEFINE_TIMER(late, in_timer);

int timer(void)
{
	mod_timer(&late, jiffies + 1);
	msleep(200);
	return 0;
}

static void in_work(struct work_struct *unused)
{
	null_read();
}

static DECLARE_WORK(item, in_work);

int work(void)
{
	schedule_work(&item);
	msleep(200);
	return 0;
}

static void in_probe(struct work_struct *unused)
{
}

static DECLARE_WORK(probe, in_probe);

/* Processors whose queue, the system's, no longer runs what is put in. */
int stuck_queues(void)
{
	int cpu, k, stuck = 0;

	for_each_online_cpu(cpu) {
		schedule_work_on(cpu, &probe);
		for (k = 0; k < 400 && work_pending(&probe); k++)
			msleep(5);
		stuck += cancel_work_sync(&probe);
	}
	return stuck;
}

static int in_kernel_thread(void *unused)
{
	return null_read();
}

int thread_of_kernel(void)
{
	struct task_struct *task = kthread_run(in_kernel_thread, NULL, "faults");

	msleep(200);
	return PTR_ERR_OR_ZERO(task);
}

static void in_interrupt_handler(void *unused)
{
	null_read();
}

int interrupt(void)
{
	return smp_call_function_single(raw_smp_processor_id() ^ 1, in_interrupt_handler, NULL, 1);
}

static int __init faults_init(void)
{
	return strcmp(faults_in, "init") ? 0 : null_read();
}

/* It does not wait for what has faulted, which would be for ever. */
static void __exit faults_exit(void)
{
	if (!strcmp(faults_in, "exit"))
		null_read();
}

module_init(faults_init);
module_exit(faults_exit);
MODULE_LICENSE("GPL");
