// SPDX-License-Identifier: GPL-2.0-only
/* Every kind of thing that a module's loader and the kernel's own functions have to finish. */
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/gfp.h>
#include <linux/hrtimer.h>
#include <linux/kprobes.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/percpu.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/srcu.h>
#include <linux/static_call.h>
#include <linux/timer.h>
#include <linux/tracepoint.h>
#include <linux/uaccess.h>
#include <linux/workqueue.h>
#include <asm/barrier.h>
#include <asm/cpufeature.h>
#include <trace/events/power.h>
#include <trace/events/sched.h>
#include "finish_export_kmod.h"
#include "finish_kmod.h"
#include "finish_part.c"

/* ---- parameters ---- */

static int size = 4;
static bool flag;
static char *label = "none";
static int list[4], list_length;
module_param(size, int, 0644);
module_param(flag, bool, 0444);
module_param(label, charp, 0444);
module_param_array(list, int, &list_length, 0);

int param_size(void)
{
	return size;
}

int param_flag(void)
{
	return flag;
}

int param_list(int index)
{
	return index < 0 ? list_length : list[index];
}

static int same(const char *mine, const char *user, unsigned long length)
{
	char theirs[64] = "";

	if (length >= sizeof(theirs) || copy_from_user(theirs, (void __user *)user, length))
		return -EFAULT;
	return !strcmp(mine, theirs);
}

int param_label_is(const char *user, unsigned long length)
{
	return same(label, user, length);
}

int modname_is(const char *user, unsigned long length)
{
	return same(KBUILD_MODNAME, user, length);
}

/* ---- static calls ---- */

static int add_one(int x)
{
	return x + 1;
}

static int add_ten(int x)
{
	return x + 10;
}

DEFINE_STATIC_CALL(finish_call, add_one);

int static_call_own(int x)
{
	return static_call(finish_call)(x);
}

int static_call_switch(void)
{
	static_call_update(finish_call, &add_ten);
	return static_call(finish_call)(0);
}

/* cond_resched() is a static call where the kernel has PREEMPT_DYNAMIC */
int static_calls_of_kernel(void)
{
	might_sleep();
	return cond_resched() >= 0;
}

/* ---- tracepoints ---- */

static int probed_state, probe_calls;

static void on_frequency(void *data, unsigned int state, unsigned int cpu)
{
	probed_state = state;
	probe_calls++;
}

int tracepoint_of_kernel(int probed)
{
	int err = probed ? register_trace_cpu_frequency(on_frequency, NULL) : 0;

	if (err)
		return err;
	probe_calls = 0;
	trace_cpu_frequency(4711, 0);
	if (probed) {
		unregister_trace_cpu_frequency(on_frequency, NULL);
		tracepoint_synchronize_unregister();
	}
	return probe_calls == 1 && probed_state == 4711;
}

DECLARE_TRACE(finish_event, TP_PROTO(int x), TP_ARGS(x));
DEFINE_TRACE(finish_event, TP_PROTO(int x), TP_ARGS(x));

int tracepoint_own(int x)
{
	trace_finish_event(x);
	return x;
}

static atomic_long_t switches;

static void on_switch(void *data, bool preempt, struct task_struct *prev, struct task_struct *next,
		      unsigned int prev_state)
{
	atomic_long_inc(&switches);
}

long sched_switches(int milliseconds)
{
	int err = register_trace_sched_switch(on_switch, NULL);

	if (err)
		return err;
	msleep(milliseconds);
	unregister_trace_sched_switch(on_switch, NULL);
	tracepoint_synchronize_unregister();
	return atomic_long_read(&switches);
}

/* ---- per-CPU data ---- */

static int target = 99;
static DEFINE_PER_CPU(int *, where) = &target;
static DEFINE_PER_CPU(long, hits) = 100;
static DEFINE_PER_CPU(struct { long a[5]; }, wide);

static void on_each(void *unused)
{
	this_cpu_add(hits, 5);
	this_cpu_write(wide.a[4], smp_processor_id());
	__this_cpu_inc(hits);
}

/* 6 on every CPU that is online, the initial value on all others */
long percpu_everywhere(void)
{
	long sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		per_cpu(hits, cpu) = 100;
	on_each_cpu(on_each, NULL, 1);
	for_each_online_cpu(cpu)
		sum += per_cpu(hits, cpu) - 100 + 10 * (per_cpu(wide, cpu).a[4] != cpu);
	return sum * 10 / num_online_cpus();
}

int percpu_pointer(void)
{
	int cpu, good = 1;

	for_each_possible_cpu(cpu)
		good &= *per_cpu(where, cpu) == 99;
	return good;
}

/* ---- things that run on their own ---- */

struct item {
	struct rcu_head rcu;
	struct completion *done;
	int value;
};

static struct item __rcu *item;
DEFINE_STATIC_SRCU(finish_srcu);

static void on_rcu(struct rcu_head *head)
{
	struct item *old = container_of(head, struct item, rcu);

	complete(old->done);
	kfree(old);
}

static int replace_item(void (*call)(struct rcu_head *, rcu_callback_t))
{
	DECLARE_COMPLETION_ONSTACK(done);
	struct item *one = kzalloc(sizeof(*one), GFP_KERNEL);
	int value;

	if (!one)
		return -ENOMEM;
	one->value = 5;
	one->done = &done;
	rcu_assign_pointer(item, one);
	rcu_read_lock();
	value = rcu_dereference(item)->value;
	rcu_read_unlock();
	RCU_INIT_POINTER(item, NULL);
	call(&one->rcu, on_rcu);
	wait_for_completion(&done);
	synchronize_rcu();
	return value;
}

int rcu_callback(void)
{
	return replace_item(call_rcu);
}

static void by_srcu(struct rcu_head *head, rcu_callback_t function)
{
	call_srcu(&finish_srcu, head, function);
}

int srcu_both(void)
{
	int index = srcu_read_lock(&finish_srcu), value;

	srcu_read_unlock(&finish_srcu, index);
	synchronize_srcu(&finish_srcu);
	value = replace_item(by_srcu);
	srcu_barrier(&finish_srcu);
	return value;
}

static struct task_struct *thread;
static long steps;

static int run_thread(void *unused)
{
	while (!kthread_should_stop()) {
		steps++;
		schedule_timeout_interruptible(1);
	}
	return 0;
}

/* The thread outlives the gate; module_exit() stops it. */
long thread_steps(int milliseconds)
{
	if (!thread) {
		thread = kthread_run(run_thread, NULL, "kb_finish");
		if (IS_ERR(thread))
			return PTR_ERR(thread);
	}
	msleep(milliseconds);
	return steps;
}

static long works;

static void on_work(struct work_struct *unused)
{
	works++;
}

static DECLARE_DELAYED_WORK(work, on_work);

long delayed_work(void)
{
	schedule_delayed_work(&work, 2);
	flush_delayed_work(&work);
	schedule_delayed_work(&work, HZ * 1000); /* module_exit() takes it back */
	return works;
}

static struct hrtimer hr;
static long hr_ticks;

static enum hrtimer_restart on_hrtimer(struct hrtimer *timer)
{
	hr_ticks++;
	hrtimer_forward_now(timer, ms_to_ktime(5));
	return HRTIMER_RESTART;
}

long hrtimer_ticks(int milliseconds)
{
	hrtimer_init(&hr, CLOCK_MONOTONIC, HRTIMER_MODE_REL);
	hr.function = on_hrtimer;
	hrtimer_start(&hr, ms_to_ktime(5), HRTIMER_MODE_REL);
	msleep(milliseconds);
	hrtimer_cancel(&hr);
	return hr_ticks;
}

static int kprobe_count;

static int on_kprobe(struct kprobe *probe, struct pt_regs *regs)
{
	kprobe_count++;
	return 0;
}

int kprobe_hits(void)
{
	struct kprobe probe = { .symbol_name = "kfree", .pre_handler = on_kprobe };
	int err = register_kprobe(&probe);

	if (err)
		return err;
	kfree(kmalloc(16, GFP_KERNEL));
	unregister_kprobe(&probe);
	return kprobe_count > 0;
}

static struct timer_list timer;
static long timer_calls;

static void on_timer(struct timer_list *unused)
{
	timer_calls++;
	mod_timer(&timer, jiffies + 1);
}

int start_ticking(void)
{
	return mod_timer(&timer, jiffies + 1);
}

long ticks(void)
{
	return READ_ONCE(timer_calls);
}

/* ---- other sources ---- */

int through_export(int x)
{
	return exported_twice(x);
}

int in_included_source(int x)
{
	return part(x);
}

/* ---- alternatives ---- */

int alternatives(void)
{
	u32 eax = 7, ebx = 0, ecx = 0, edx = 0;

	mb();
	rmb();
	wmb();
	native_cpuid(&eax, &ebx, &ecx, &edx);
	return static_cpu_has(X86_FEATURE_SMAP) == !!(ebx & BIT(20)) &&
	       static_cpu_has(X86_FEATURE_ERMS) == boot_cpu_has(X86_FEATURE_ERMS);
}

int page_cleared(void)
{
	char *page = (char *)__get_free_page(GFP_KERNEL);
	int good;

	if (!page)
		return -ENOMEM;
	memset(page, 0xff, PAGE_SIZE);
	clear_page(page);
	good = !memchr_inv(page, 0, PAGE_SIZE);
	free_page((unsigned long)page);
	return good;
}

/* ---- what stays, and what cannot be written ---- */

int trace_here(int x)
{
	trace_printk("finish traces %d\n", x);
	trace_printk("finish traces a line\n");
	return x;
}

static int (*const constant[])(int) = { add_one, add_ten };

int constants_are_read_only(void)
{
	void *value = add_ten;

	return copy_to_kernel_nofault((void *)constant, &value, sizeof(value)) == -EFAULT &&
	       constant[size & 1](1) > 1;
}

/* ---- trouble ---- */

void bug_here(int line_to_be_named)
{
	BUG_ON(line_to_be_named == 1);
}

int warn_here(void)
{
	return WARN_ON_ONCE(size != 123456);
}

static int __init finish_init(void)
{
	timer_setup(&timer, on_timer, 0);
	return 0;
}

static void __exit finish_exit(void)
{
	del_timer_sync(&timer);
	cancel_delayed_work_sync(&work);
	if (!IS_ERR_OR_NULL(thread))
		kthread_stop(thread);
	pr_info("finish_kmod: exit, thread made %ld steps\n", steps);
}

module_init(finish_init);
module_exit(finish_exit);
MODULE_LICENSE("GPL");
