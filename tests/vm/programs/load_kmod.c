// SPDX-License-Identifier: GPL-2.0-only
/* Counts, lists, waits and files that load.c and load_ends.c use from many threads at once. */
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/ktime.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/percpu.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <asm/setup.h>
#include "load_kmod.h"

static DEFINE_MUTEX(lock);
static LIST_HEAD(nodes);
static DEFINE_PER_CPU(long, hits);
static DECLARE_COMPLETION(woken);
static atomic_t begun = ATOMIC_INIT(0), ended = ATOMIC_INIT(0);
static long counter, length, preemptions;
static int pending;

struct node {
	struct list_head link;
	long value;
};

long tally(long x)
{
	this_cpu_inc(hits);
	return 3 * x + 1;
}

long tallied(void)
{
	long sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += per_cpu(hits, cpu);
	return sum;
}

long count(void)
{
	long value;

	mutex_lock(&lock);
	value = ++counter;
	mutex_unlock(&lock);
	return value;
}

long append(long value)
{
	struct node *node = kmalloc(sizeof(*node), GFP_KERNEL);

	if (!node)
		return -ENOMEM;
	node->value = value;
	mutex_lock(&lock);
	list_add_tail(&node->link, &nodes);
	length++;
	mutex_unlock(&lock);
	return 0;
}

/* The oldest value, which leaves the list. */
long take(void)
{
	struct node *node;
	long value = -ENOENT;

	mutex_lock(&lock);
	node = list_first_entry_or_null(&nodes, struct node, link);
	if (node) {
		value = node->value;
		list_del(&node->link);
		length--;
	}
	mutex_unlock(&lock);
	kfree(node);
	return value;
}

/* Or -1, where the list has another number of nodes than it counted. */
long list_length(void)
{
	struct list_head *at;
	long seen = 0, said;

	mutex_lock(&lock);
	list_for_each(at, &nodes)
		seen++;
	said = length;
	mutex_unlock(&lock);
	return seen == said ? seen : -1;
}

/* No signal ends it.  The time of its end, in ns of CLOCK_MONOTONIC. */
long slept_until(int milliseconds)
{
	long now;

	atomic_inc(&begun);
	msleep(milliseconds);
	pending = signal_pending(current);
	now = ktime_get_ns();
	atomic_inc(&ended);
	return now;
}

/* As slept_until(), on the CPU; only the timer tick can take it away. */
long busy_until(int milliseconds)
{
	long end = ktime_get_ns() + milliseconds * (long)NSEC_PER_MSEC, now;
	unsigned long before = current->nivcsw;

	atomic_inc(&begun);
	do {
		cpu_relax();
		now = ktime_get_ns();
	} while (now < end);
	pending = signal_pending(current);
	preemptions = current->nivcsw - before;
	atomic_inc(&ended);
	return now;
}

struct stays stays(void)
{
	return (struct stays){ atomic_read(&begun), atomic_read(&ended) };
}

int was_pending(void)
{
	return pending;
}

long was_preempted(void)
{
	return preemptions;
}

/* The time after which the others could have the lock. */
long hold(int milliseconds)
{
	long now;

	mutex_lock(&lock);
	atomic_inc(&begun);
	msleep(milliseconds);
	now = ktime_get_ns();
	mutex_unlock(&lock);
	return now;
}

long await(void)
{
	return wait_for_completion_killable(&woken);
}

long wake(void)
{
	complete(&woken);
	return 0;
}

long read_fd(int fd, void *user, unsigned long size)
{
	struct file *file = fget(fd);
	char bytes[16];
	long got;

	if (!file)
		return -EBADF;
	got = kernel_read(file, bytes, min(size, sizeof(bytes)), NULL);
	fput(file);
	if (got > 0 && copy_to_user((void __user *)user, bytes, got))
		return -EFAULT;
	return got;
}

/* Write the value to a new file, and read it again. */
long through_file(int number, long value)
{
	struct file *file;
	char path[32];
	loff_t at = 0;
	long done, back = -EIO;

	snprintf(path, sizeof(path), "/tmp/load-%d", number);
	file = filp_open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (IS_ERR(file))
		return PTR_ERR(file);
	done = kernel_write(file, &value, sizeof(value), &at);
	if (done == sizeof(value))
		done = vfs_fsync(file, 0);
	at = 0;
	if (!done)
		done = kernel_read(file, &back, sizeof(back), &at);
	filp_close(file, NULL);
	return done == sizeof(back) ? back : done;
}

/* The signal is delivered when the gate returns, before its caller sees the result. */
long signal_self(int number, long x)
{
	send_sig(number, current, 1);
	return tally(x); /* a gate that another kmod function calls is an ordinary function */
}

long call_other(long function, long x)
{
	return ((long (*)(long))function)(x);
}

int has_kaslr(void)
{
	return kaslr_enabled();
}

static void __exit load_exit(void)
{
	while (take() != -ENOENT)
		;
}

module_exit(load_exit);
MODULE_LICENSE("GPL");
