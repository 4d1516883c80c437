// SPDX-License-Identifier: GPL-2.0-only
/*
 * One line beside the kernel's own oops: which program dies, of which function of its image.  It
 * is the last one before "end trace", and says so also where the fault lies in a function of the
 * kernel that the image called, or at an address that is no function at all.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kdebug.h>
#include <linux/preempt.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/stacktrace.h>
#include <linux/uaccess.h>
#include "internal.h"

#define DEPTH 64
#define LINGER HZ /* a notifier that leaves waits for all processors: not for each program anew */

static unsigned long trace[DEPTH]; /* of one oops at a time: die_lock is held */
static DEFINE_MUTEX(watching);
static unsigned int ninstances;
static bool watches;

static bool in_instance(unsigned long address)
{
	struct module *mod = kernel.__module_address(address);

	return mod && !strncmp(mod->name, "kb:", 3);
}

/* The innermost function of an image on this stack: an address behind a call, or 0. */
static unsigned long caller(const struct pt_regs *regs)
{
	unsigned int depth = stack_trace_save(trace, DEPTH, 0), k;
	unsigned long top;

	for (k = 0; k < depth; k++)
		if (in_instance(trace[k]))
			return trace[k];
	/* a call to where no function is: no unwinder gets past it, but it left its address */
	if (!copy_from_kernel_nofault(&top, (void *)regs->sp, sizeof(top)) && in_instance(top))
		return top;
	return 0;
}

static void tell(const struct pt_regs *regs, unsigned long from)
{
	char comm[TASK_COMM_LEN], who[4 * TASK_COMM_LEN + 16] = "the machine";

	if (!in_interrupt()) {
		/* not get_task_comm(), which waits for a lock that this task may hold */
		strscpy(comm, current->comm, sizeof(comm));
		snprintf(who, sizeof(who), "%*pE[%d]", (int)strlen(comm), comm,
			 task_tgid_nr(current));
	}
	if (from == regs->ip)
		pr_err("%s dies of a fault in %pS\n", who, (void *)regs->ip);
	else
		pr_err("%s dies of a fault in %pB, at %pS\n", who, (void *)from, (void *)regs->ip);
}

/*
 * The kernel ends the thread that faulted.  The others would wait for it forever, or for what it
 * had locked: as with any other fatal fault, the process goes.
 */
static void end_process(void)
{
	if (current->mm && !(current->flags & PF_KTHREAD) && !in_interrupt() &&
	    !thread_group_empty(current))
		send_sig(SIGKILL, current, 1);
}

static int oops(struct notifier_block *nb, unsigned long event, void *data)
{
	struct pt_regs *regs = ((struct die_args *)data)->regs;
	unsigned long from;

	if (event != DIE_OOPS || !regs || user_mode(regs))
		return NOTIFY_DONE;
	from = in_instance(regs->ip) ? regs->ip : caller(regs);
	if (from) {
		tell(regs, from);
		end_process();
	}
	return NOTIFY_DONE;
}

static struct notifier_block notifier = { .notifier_call = oops };

static void stop_watching(struct work_struct *work)
{
	mutex_lock(&watching);
	if (watches && !ninstances) {
		unregister_die_notifier(&notifier);
		watches = false;
	}
	mutex_unlock(&watching);
}

static DECLARE_DELAYED_WORK(stop, stop_watching);

/* An instance begins. */
void faults_watch(void)
{
	mutex_lock(&watching);
	if (!ninstances++ && !watches)
		watches = !register_die_notifier(&notifier);
	mutex_unlock(&watching);
}

/* And ends. */
void faults_forget(void)
{
	mutex_lock(&watching);
	if (!--ninstances)
		mod_delayed_work(system_wq, &stop, LINGER);
	mutex_unlock(&watching);
}

/* No instance is left. */
void faults_stop(void)
{
	cancel_delayed_work_sync(&stop);
	stop_watching(NULL);
}
