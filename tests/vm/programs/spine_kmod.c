// SPDX-License-Identifier: GPL-2.0-only
/* Ordinary kernel code of many kinds; spine.c calls it and compares. */
#include <linux/delay.h>
#include <linux/jump_label.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/percpu.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/timer.h>
#include <linux/uaccess.h>
#include <linux/workqueue.h>
#include "spine_kmod.h"

DECLARE_STATIC_KEY_FALSE(sched_schedstats); /* the kernel's own: sysctl kernel.sched_schedstats */

static DEFINE_MUTEX(lock);
static LIST_HEAD(nodes);
static DEFINE_PER_CPU(long, hits) = 10;
static DEFINE_STATIC_KEY_FALSE(own_false);
static DEFINE_STATIC_KEY_TRUE(own_true);
static struct timer_list timer;
static long counter, ticks, works;
static int init_calls;

struct node {
	struct list_head link;
	long value;
};

int started(void)
{
	return init_calls;
}

long sum6(long a, long b, long c, long d, long e, long f)
{
	return a + 10 * b + 100 * c + 1000 * d + 10000 * e + 100000 * f;
}

long sum12(long a, long b, long c, long d, long e, long f, long g, long h, long i, long j, long k,
	   long l)
{
	return sum6(a, b, c, d, e, f) + 1000000 * sum6(g, h, i, j, k, l);
}

long sum_structs(struct pair p, struct triple t, long a, long b, long c, long d, struct pair q)
{
	return sum12(p.a, p.b, t.a, t.b, t.c, a, b, c, d, q.a, q.b, 0);
}

/* sixty stack words, and as many as a gate carries */
long sum_many(long a, struct many m)
{
	for (int i = 0; i < 60; i++)
		a += (i + 1) * m.w[i];
	return a;
}

long sum_most(struct most m)
{
	long sum = 0;

	for (int i = 0; i < 256; i++)
		sum += (i + 1) * m.w[i];
	return sum;
}

struct pair swapped(struct pair p)
{
	return (struct pair){ p.b, p.a };
}

__int128 square(__int128 x)
{
	return x * x;
}

int minus_one(void)
{
	return -1;
}

long restart_code(void)
{
	return -ERESTARTSYS; /* a value like any other for a kmod function */
}

unsigned char small(unsigned char c, signed char d, short s)
{
	return c + d + s;
}

int pid(void)
{
	return current->pid;
}

long count(void)
{
	long value;

	mutex_lock(&lock);
	value = ++counter;
	mutex_unlock(&lock);
	return value;
}

long list_sum(long value)
{
	struct node *node = kmalloc(sizeof(*node), GFP_KERNEL);
	long sum = 0;

	if (!node)
		return -ENOMEM;
	node->value = value;
	mutex_lock(&lock);
	list_add(&node->link, &nodes);
	list_for_each_entry(node, &nodes, link)
		sum += node->value;
	mutex_unlock(&lock);
	return sum;
}

static int plus_one(int x)
{
	return x + 1;
}

static int twice(int x)
{
	return 2 * x;
}

static int (*const table[])(int) = { plus_one, twice };

int call_through_table(int index, int x)
{
	return table[index](x);
}

static const char *const words[] = { "hello", "kernel" };

int greeting(char *user, unsigned long size)
{
	char text[32];
	int length = snprintf(text, sizeof(text), "%s %s", words[0], words[1]);

	if (length >= size)
		return -ENOSPC;
	return copy_to_user((void __user *)user, text, length + 1) ? -EFAULT : length;
}

long data_address(void)
{
	return (long)&counter;
}

static void on_timer(struct timer_list *unused)
{
	ticks++;
	mod_timer(&timer, jiffies + 1);
}

long timer_ticks(int milliseconds)
{
	mod_timer(&timer, jiffies + 1);
	msleep(milliseconds);
	return ticks;
}

static void on_work(struct work_struct *unused)
{
	works++;
}

static DECLARE_WORK(work, on_work);

long works_done(void)
{
	schedule_work(&work);
	flush_work(&work);
	return works;
}

int keys(int flip)
{
	if (flip > 0) {
		static_branch_enable(&own_false);
		static_branch_disable(&own_true);
	} else if (flip < 0) {
		static_branch_disable(&own_false);
		static_branch_enable(&own_true);
	}
	return (static_branch_unlikely(&own_false) ? 1 : 0) |
	       (static_branch_likely(&own_true) ? 2 : 0);
}

int kernel_key(void)
{
	return static_branch_unlikely(&sched_schedstats) ? 1 : 0;
}

int warn(int once)
{
	if (once)
		WARN_ONCE(1, "spine test warns once\n");
	else
		WARN(1, "spine test warns\n");
	return 1;
}

long percpu_hits(void)
{
	long sum = 0;
	int cpu;

	this_cpu_inc(hits);
	for_each_possible_cpu(cpu)
		sum += per_cpu(hits, cpu) - 10;
	return sum;
}

int increment(int *user)
{
	int value;

	if (get_user(value, (int __user *)user))
		return -EFAULT;
	return put_user(value + 1, (int __user *)user);
}

int unsafe_increment(int *user)
{
	int __user *p = (int __user *)user;
	int value;

	if (!user_access_begin(p, sizeof(*p)))
		return -EACCES;
	unsafe_get_user(value, p, fault);
	unsafe_put_user(value + 1, p, fault);
	user_access_end();
	return 0;
fault:
	user_access_end();
	return -EFAULT;
}

int has_smap(void)
{
	return (static_cpu_has(X86_FEATURE_SMAP) ? 1 : 0) | (__read_cr4() & X86_CR4_SMAP ? 2 : 0) |
	       (__read_cr4() & X86_CR4_SMEP ? 4 : 0);
}

int symbol_text(char *user, unsigned long size)
{
	char text[96];
	int length = snprintf(text, sizeof(text), "%ps %ps", (void *)kfree, (void *)twice);

	return length >= size || copy_to_user((void __user *)user, text, length + 1) ? -EFAULT : 0;
}

long sleep_ms(int milliseconds)
{
	return msleep_interruptible(milliseconds);
}

int module_named(char *user, unsigned long size)
{
	const char *name = THIS_MODULE->name;
	size_t length = strlen(name) + 1;

	return length > size || copy_to_user((void __user *)user, name, length) ? -EFAULT : 0;
}

int oops(void)
{
	*(volatile int *)8 = 1;
	return 0;
}

static int __init spine_init(void)
{
	timer_setup(&timer, on_timer, 0);
	init_calls++;
	return 0;
}

static void __exit spine_exit(void)
{
	struct node *node, *next;

	del_timer_sync(&timer);
	list_for_each_entry_safe(node, next, &nodes, link)
		kfree(node);
	pr_info("spine_kmod: exit, %ld ticks\n", ticks);
}

module_init(spine_init);
module_exit(spine_exit);
MODULE_LICENSE("GPL");
