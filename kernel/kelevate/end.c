// SPDX-License-Identifier: GPL-2.0-only
/*
 * An image's end: with its last user, or, where the kernel still holds its module (an open device,
 * a mounted file system), when that lets go; or never, where it cannot be removed.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/async.h>
#include <linux/completion.h>
#include <linux/jiffies.h>
#include <linux/percpu.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>
#include <linux/workqueue.h>
#include "internal.h"

#define FIRST_RETRY (HZ / 20 + 1)
#define LAST_RETRY HZ

/*
 * May sleep for as long as a module_exit() does, so not one of the kernel's.  Not WQ_MEM_RECLAIM:
 * module_exit() may flush work of others.
 */
static struct workqueue_struct *endings;

/* The last close, until the first try to end. */
struct waiter {
	struct completion done;
	struct task_struct *worker; /* that tries, held */
};

/* What it registered would call freed memory: the lesser harm is to keep it, as for a module. */
static bool is_permanent(const struct instance *inst)
{
	if (inst->exit || inst->init_result < 0)
		return false;
	if (inst->init)
		pr_info("%s: has module_init() but no module_exit(): left in memory\n",
			inst->mod->name);
	/* a timer or thread of its own may still be there, and nobody says that it is not */
	else if (inst->called_back)
		pr_info("%s: the kernel may call it, and it has no module_exit(): left in memory\n",
			inst->mod->name);
	return inst->init || inst->called_back;
}

/* Nobody may take a reference from here on.  False: somebody has one. */
static bool withdraw_from_kernel(struct instance *inst)
{
	struct module *mod = inst->mod;

	if (atomic_cmpxchg(&mod->refcnt, 1, 0) != 1)
		return false;
	mod->state = MODULE_STATE_GOING;
	if (inst->exit && inst->init_result >= 0)
		((void (*)(void))(inst->base + inst->exit - 1))();
	async_synchronize_full();
	/* first: to set a parameter may be to call the image */
	instance_drop_params(inst);
	instance_remove_from_sysfs(inst);
	instance_unfinish(inst);
	pr_info("%s freed\n", mod->name);
	return true;
}

static void free_memory(struct instance *inst)
{
	instance_drop_params(inst);
	instance_remove_from_sysfs(inst);
	release_imports(inst);
	free_percpu(inst->percpu);
	vfree(inst->base); /* VM_FLUSH_RESET_PERMS: the permissions go back by themselves */
	kvfree(inst->names.symtab);
	kvfree(inst->names.strtab);
	kvfree(inst->names.typetab);
	kvfree(inst);
}

/*
 * In a kernel thread, as a process that ends has no files, no memory and no root folder left, and
 * module_exit() may want them.  Somebody who waits is told after the first try.
 */
static void end(struct work_struct *work)
{
	struct instance *inst = container_of(to_delayed_work(work), struct instance, ending);
	struct waiter *waiting = xchg(&inst->waiting, NULL);
	bool ended;

	if (waiting) /* died() reads it: the task is held before it is seen */
		smp_store_release(&waiting->worker, get_task_struct(current));
	ended = !inst->finished || withdraw_from_kernel(inst);
	if (ended) {
		free_memory(inst);
	} else {
		if (waiting)
			pr_info("%s: the kernel still uses it: freed when it no longer does\n",
				inst->mod->name);
		queue_delayed_work(endings, &inst->ending, inst->retry);
		inst->retry = min_t(unsigned long, 2 * inst->retry, LAST_RETRY);
	}
	if (waiting)
		complete(&waiting->done);
	if (ended) {
		module_put(THIS_MODULE); /* endings_stop() waits for the rest of this function */
		faults_forget();
	}
}

static bool died(struct waiter *waiting)
{
	/* of end() */
	const struct task_struct *worker = smp_load_acquire(&waiting->worker);

	return worker && READ_ONCE(worker->flags) & PF_EXITING;
}

static void instance_free(struct kref *users)
{
	struct instance *inst = container_of(users, struct instance, users);
	struct waiter waiting = {};

	if (inst->finished && is_permanent(inst))
		return;
	init_completion(&waiting.done);
	inst->waiting = &waiting;
	inst->retry = FIRST_RETRY;
	INIT_DELAYED_WORK(&inst->ending, end);
	queue_delayed_work(endings, &inst->ending, 0);
	/* a fault in module_exit() ends the worker: the process must not wait for ever */
	while (!wait_for_completion_timeout(&waiting.done, HZ / 2 + 1))
		if (died(&waiting))
			break;
	if (waiting.worker)
		put_task_struct(waiting.worker);
}

/* An open file lets go of the instance; the last one frees it. */
void instance_put(struct instance *inst)
{
	kref_put(&inst->users, instance_free);
}

int endings_start(void)
{
	endings = alloc_workqueue("kelevate", WQ_UNBOUND, 0);
	return endings ? 0 : -ENOMEM;
}

void endings_stop(void)
{
	destroy_workqueue(endings);
}
