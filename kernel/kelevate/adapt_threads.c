// SPDX-License-Identifier: GPL-2.0-only
/*
 * Adaptor threads: elevation is a thread's, and a program's new threads know nothing of it.  They
 * get it as they are made; with KELEVATE_INHERIT new processes do, too.
 */
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/tracepoint.h>
#include "elevation.h"
#include "entry.h"
#include "internal.h"

static bool inherits(const struct elevation *e, const struct task_struct *child)
{
	if (child->flags & (PF_KTHREAD | PF_IO_WORKER))
		return false;
	if (child->tgid == current->tgid)
		return e->adaptors & KELEVATE_ADAPT_THREADS;
	return e->flags & KELEVATE_INHERIT;
}

/* The child has not run yet.  Without memory it runs in ring 3, where it is as right. */
static void on_fork(void *unused, struct task_struct *parent, struct task_struct *child)
{
	struct thread *t = this_cpu_read(kelevate_thread), *made;

	if (!t || t->task != current || parent != current)
		return;
	if (!(t->elevation->flags & KELEVATE_PROGRAM) || !inherits(t->elevation, child))
		return;
	made = new_thread(child, t->elevation, GFP_ATOMIC | __GFP_NOWARN);
	if (!made)
		return;
	made->want = t->want;
	hlist_add_head(&made->notifier.link, &child->preempt_notifiers);
}

int threads_attach(void)
{
	return tracepoint_probe_register(kernel.sched_process_fork, on_fork, NULL);
}

void threads_detach(void)
{
	tracepoint_probe_unregister(kernel.sched_process_fork, on_fork, NULL);
	tracepoint_synchronize_unregister();
}
