// SPDX-License-Identifier: GPL-2.0-only
/*
 * One line for each process that elevates: its uid, pid and program, in the kernel log or, where
 * the parameter audit says so, in the audit trail.  A program that was started by exec is another
 * one, though its pid is the old one's.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/audit.h>
#include <linux/cred.h>
#include <linux/pid.h>
#include <linux/rcupdate.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/xarray.h>
#include "internal.h"

static bool audit;
module_param(audit, bool, 0600);
MODULE_PARM_DESC(audit,
		 "tell the audit subsystem who elevates, and the kernel log only if it is off");

/* A process that was told of; the reference keeps its struct pid from becoming another's. */
struct told {
	struct pid *pid;
	u64 exec;
	struct rcu_head rcu;
};

#define FIRST_SWEEP 64

static DEFINE_XARRAY(all_told); /* by pid */
static DEFINE_MUTEX(writing);
static unsigned long ntold, sweep_at = FIRST_SWEEP;

static bool is_told(void)
{
	struct pid *pid = task_tgid(current);
	struct told *told;
	bool found;

	rcu_read_lock();
	told = xa_load(&all_told, pid_nr(pid));
	found = told && told->pid == pid && told->exec == current->self_exec_id;
	rcu_read_unlock();
	return found;
}

static void forget(struct told *told)
{
	put_pid(told->pid);
	kfree_rcu(told, rcu);
	ntold--;
}

static void sweep(void)
{
	struct told *told;
	unsigned long index;

	xa_for_each(&all_told, index, told) {
		bool alive;

		rcu_read_lock();
		alive = pid_task(told->pid, PIDTYPE_TGID);
		rcu_read_unlock();
		if (alive)
			continue;
		xa_erase(&all_told, index);
		forget(told);
	}
	sweep_at = 2 * ntold + FIRST_SWEEP;
}

/* Without memory for it, a process is told of again at its next gate. */
static void remember(void)
{
	struct pid *pid = task_tgid(current);
	struct told *told = kmalloc(sizeof(*told), GFP_KERNEL), *old;

	if (!told)
		return;
	if (ntold >= sweep_at)
		sweep();
	told->pid = get_pid(pid);
	told->exec = current->self_exec_id;
	ntold++;
	old = xa_store(&all_told, pid_nr(pid), told, GFP_KERNEL);
	if (xa_is_err(old))
		forget(told);
	else if (old)
		forget(old);
}

static bool tell_audit(const char *name)
{
	struct audit_buffer *buffer;

	if (!READ_ONCE(audit) || !audit_enabled)
		return false;
	buffer = audit_log_start(audit_context(), GFP_KERNEL, AUDIT_KERN_MODULE);
	if (!buffer)
		return false;
	/* as audit_log_untrustedstring() has it, which modules may not use */
	if (strpbrk(name, " \""))
		audit_log_format(buffer, "op=elevate name=%*phN", (int)strlen(name), name);
	else
		audit_log_format(buffer, "op=elevate name=\"%s\"", name);
	audit_log_task_info(buffer);
	audit_log_end(buffer);
	return true;
}

static void tell(const char *what)
{
	char comm[TASK_COMM_LEN];

	get_task_comm(comm, current->group_leader);
	/* escaped, as a program chooses its name: one line stays one */
	pr_notice("%*pE[%d] elevates: uid %u, %s\n", (int)strlen(comm), comm, task_tgid_nr(current),
		  from_kuid(&init_user_ns, current_uid()), what);
}

/* `what`: the image, or what else is entered */
void log_elevation(const char *what)
{
	if (is_told())
		return;
	mutex_lock(&writing);
	if (!is_told()) { /* by another thread of it, meanwhile */
		if (!tell_audit(what))
			tell(what);
		remember();
	}
	mutex_unlock(&writing);
}

void log_end(void)
{
	struct told *told;
	unsigned long index;

	xa_for_each(&all_told, index, told) {
		xa_erase(&all_told, index);
		forget(told);
	}
	xa_destroy(&all_told);
}
