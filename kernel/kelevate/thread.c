// SPDX-License-Identifier: GPL-2.0-only
/*
 * Threads whose user code runs in ring 0.  Whether it does is decided anew with every return to
 * it: a user-return notifier diverts the kernel's way to ring 3 to kelevate_to_ring0 (entry.S), so
 * all that the kernel does before a return (signals, scheduling, registers) is done as ever.  What
 * a CPU needs for such a thread comes and goes with the thread, by preemption notifiers.
 *
 * Nothing of this is there while no thread is elevated, and for a second after.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/atomic.h>
#include <linux/cc_platform.h>
#include <linux/cred.h>
#include <linux/irq_work.h>
#include <linux/mutex.h>
#include <linux/sched/task_stack.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/user-return-notifier.h>
#include <linux/workqueue.h>
#include <asm/cpufeature.h>
#include <asm/msr.h>
#include <asm/ptrace.h>
#include <asm/special_insns.h>
#include <asm/trap_pf.h>
#include "entry.h"
#include "elevation.h"
#include "internal.h"

DEFINE_PER_CPU(struct thread *, kelevate_thread);
DEFINE_PER_CPU(unsigned long, kelevate_stack_top);
unsigned long kelevate_to_ring3;

static DEFINE_PER_CPU(struct user_return_notifier, on_return);
static DEFINE_PER_CPU(bool, listening);
static DEFINE_PER_CPU(bool, not_alone); /* other notifiers were there before */

/* ---- this CPU: interrupts off ---- */

static void raise_cpu(const struct thread *t)
{
	vectors_load(t);
	fault_up(uses(t, KELEVATE_ADAPT_FAULT));
	smap_up(uses(t, KELEVATE_ADAPT_SMAP));
	if (uses(t, KELEVATE_ADAPT_SMEP))
		smep_up();
	if (uses(t, KELEVATE_ADAPT_SYSCALL))
		syscall_up();
	if (uses(t, KELEVATE_ADAPT_IBT))
		ibt_up();
}

static void lower_cpu(const struct thread *t)
{
	vectors_unload();
	if (uses(t, KELEVATE_ADAPT_SYSCALL))
		syscall_down();
	if (uses(t, KELEVATE_ADAPT_IBT))
		ibt_down();
}

static void come_down(struct thread *t)
{
	t->up = false;
	lower_cpu(t);
}

/* The asm entry code calls C with struct pt_regs on top of its stack, and returns to it there. */
static bool is_entry_code(unsigned long address)
{
	return (address >= kernel.entry_text && address < kernel.entry_text_end) ||
	       address - kernel.ret_from_fork < 128;
}

static void go_up(struct thread *t, struct pt_regs *regs)
{
	unsigned long *back = (unsigned long *)regs - 1;

	/* vsyscalls, addresses that no iret goes to, 32-bit code: the kernel's own way to ring 3 */
	if (unlikely(!is_entry_code(*back) || regs->ip >= TASK_SIZE_MAX || regs->cs != __USER_CS)) {
		if (t->up)
			come_down(t);
		return;
	}
	/* KVM_RUN, for one, loads the kernel's vectors, and a system call entry */
	if (!t->up || !vectors_are_loaded(t) || this_cpu_read(not_alone)) {
		raise_cpu(t);
		this_cpu_write(not_alone, false);
		t->up = true;
	}
	*back = (unsigned long)kelevate_to_ring0;
}

/* ---- whether it may still ---- */

static bool has_module_capability(const struct cred *cred)
{
	return cred->user_ns == &init_user_ns && cap_raised(cred->cap_effective, CAP_SYS_MODULE);
}

static bool may_stay_with(struct thread *t, const struct cred *cred)
{
	if (kernel.kernel_locked_down && READ_ONCE(*kernel.kernel_locked_down))
		return false;
	if (current->thread.gsbase) /* arch_prctl() set it meanwhile */
		return false;
	if (cred == t->cred)
		return true;
	if (!has_module_capability(cred))
		return false;
	put_cred(t->cred);
	t->cred = get_cred(cred);
	return true;
}

/* With every return to elevated code. */
static __always_inline bool may_stay(struct thread *t)
{
	const struct cred *cred = current_cred();

	if (likely(cred == t->cred && !current->thread.gsbase && kernel.kernel_locked_down &&
		   !READ_ONCE(*kernel.kernel_locked_down)))
		return true;
	return may_stay_with(t, cred);
}

/* A program is elevated from exec on, and what it executes in its place is, too. */
static void check_exec(struct thread *t)
{
	if (likely(t->exec == current->self_exec_id))
		return;
	t->exec = current->self_exec_id;
	t->want = t->elevation->flags & KELEVATE_PROGRAM;
}

/* kb_elevate() again, in a thread that was elevated before: a system call that does not exist. */
static void check_again(struct thread *t, struct pt_regs *regs)
{
	if (likely(regs->orig_ax != KELEVATE_AGAIN) || regs->ax != -ENOSYS || t->want)
		return;
	/* a filter may have said so; and a program's threads that came down stay so */
	if (test_syscall_work(SECCOMP) || t->elevation->flags & KELEVATE_PROGRAM)
		return;
	if (current->thread.gsbase) /* KELEVATE_ELEVATE says it in the log */
		return;
	t->want = true;
	regs->ax = may_stay(t) ? 0 : -EPERM;
}

static void on_user_return(struct user_return_notifier *unused)
{
	struct thread *t = this_cpu_read(kelevate_thread);
	struct pt_regs *regs;

	if (unlikely(!t || t->task != current))
		return;
	regs = task_pt_regs(current);
	check_exec(t);
	check_again(t, regs);
	if (t->want && unlikely(!may_stay(t)))
		t->want = false;
	if (t->want)
		go_up(t, regs);
	else if (t->up)
		come_down(t);
}

/* Elevated code calls kelevate_lower. */
void kelevate_lowered(void)
{
	struct thread *t = this_cpu_read(kelevate_thread);

	t->want = false;
	come_down(t);
}

/* ---- faults that only an adaptor explains ---- */

/*
 * On the thread's kernel stack, interrupts off, before the kernel hears of it.  What a tracer did
 * here could fault, and the kernel read CR2 too late.
 */
noinstr bool kelevate_fix_fault(struct frame *frame)
{
	const struct thread *t = this_cpu_read(kelevate_thread);
	unsigned long address = native_read_cr2();

	if (!(frame->error & X86_PF_PROT) || address >= TASK_SIZE_MAX)
		return false;
	if (uses(t, KELEVATE_ADAPT_SMEP) && fix_smep(frame))
		return true;
	if (uses(t, KELEVATE_ADAPT_PTI) && fix_pti(frame, address))
		return true;
	return uses(t, KELEVATE_ADAPT_SMAP) && fix_smap(frame);
}

/* ---- threads on and off a CPU ---- */

static LLIST_HEAD(ended);
static void reap(struct work_struct *work);
static DECLARE_WORK(reap_work, reap);

static void queue_reap(struct irq_work *work)
{
	schedule_work(&reap_work);
}

static struct irq_work ended_irq_work = IRQ_WORK_INIT(queue_reap);

/*
 * The last of the notifiers: those of KVM put the kernel's MSRs back, MSR_LSTAR among them, and may
 * be there of a thread that had this CPU before.
 */
static void listen(void)
{
	struct user_return_notifier *own = this_cpu_ptr(&on_return);
	struct hlist_node *last;

	own->on_user_return = on_user_return;
	user_return_notifier_register(own);
	this_cpu_write(listening, true);
	last = own->link.next;
	if (likely(!last))
		return;
	while (last->next)
		last = last->next;
	hlist_del(&own->link);
	hlist_add_behind(&own->link, last);
	this_cpu_write(not_alone, true);
}

static void sched_in(struct preempt_notifier *notifier, int cpu)
{
	struct thread *t = container_of(notifier, struct thread, notifier);
	unsigned long flags;

	local_irq_save(flags);
	this_cpu_write(kelevate_thread, t);
	this_cpu_write(kelevate_stack_top, (unsigned long)(task_pt_regs(current) + 1));
	if (!this_cpu_read(listening))
		listen();
	if (t->up)
		raise_cpu(t);
	local_irq_restore(flags);
}

static void sched_out(struct preempt_notifier *notifier, struct task_struct *next)
{
	struct thread *t = container_of(notifier, struct thread, notifier);
	unsigned long flags;

	local_irq_save(flags);
	if (t->up)
		lower_cpu(t);
	smep_out();
	if (this_cpu_read(listening)) {
		user_return_notifier_unregister(this_cpu_ptr(&on_return));
		this_cpu_write(listening, false);
	}
	this_cpu_write(kelevate_thread, NULL);
	local_irq_restore(flags);
	/* under the scheduler's locks: no memory can be freed here */
	if (READ_ONCE(current->__state) == TASK_DEAD) {
		llist_add(&t->ended, &ended);
		irq_work_queue(&ended_irq_work);
	}
}

static struct preempt_ops preempt_ops = {
	.sched_in = sched_in,
	.sched_out = sched_out,
};

/* ---- their life ---- */

#define LINGER HZ /* to detach waits for all processors: not for each program anew */

static DEFINE_MUTEX(attaching);
static bool attached;
static atomic_t threads = ATOMIC_INIT(0);

void put_elevation(struct elevation *e)
{
	if (e && refcount_dec_and_test(&e->users))
		kfree(e);
}

/* Not yet known to the scheduler.  NULL: no memory. */
struct thread *new_thread(struct task_struct *task, struct elevation *e, gfp_t gfp)
{
	struct thread *t = kzalloc(sizeof(*t), gfp);

	if (!t)
		return NULL;
	__module_get(THIS_MODULE);
	atomic_inc(&threads);
	atomic64_inc(&e->threads);
	refcount_inc(&e->users);
	t->elevation = e;
	t->task = task;
	t->cred = get_task_cred(task);
	t->exec = task->self_exec_id;
	preempt_notifier_init(&t->notifier, &preempt_ops);
	return t;
}

static void free_thread(struct thread *t)
{
	put_cred(t->cred);
	put_elevation(t->elevation);
	kfree(t);
	atomic_dec(&threads);
	module_put(THIS_MODULE);
}

static int attach(void)
{
	int err;

	BUILD_BUG_ON(offsetof(struct pt_regs, ax) != 80 || offsetof(struct pt_regs, cs) != 136 ||
		     offsetof(struct pt_regs, flags) != 144 || offsetof(struct pt_regs, ss) != 160);
	if (!kernel.entry_text || !kernel.entry_text_end || !kernel.ret_from_fork ||
	    !kernel.to_ring3 || !kernel.sched_process_fork || !kernel.local_timer_entry) {
		pr_err("cannot elevate: this kernel's ways to ring 3 are not known\n");
		return -EOPNOTSUPP;
	}
	kelevate_to_ring3 = kernel.to_ring3;
	syscall_start();
	err = vectors_init() ?: threads_attach();
	if (err)
		return err;
	err = ticks_attach();
	if (err) {
		threads_detach();
		return err;
	}
	preempt_notifier_inc();
	attached = true;
	return 0;
}

static void detach(void)
{
	preempt_notifier_dec();
	ticks_detach();
	threads_detach();
	attached = false;
}

static void detach_unused(struct work_struct *work)
{
	mutex_lock(&attaching);
	if (attached && !atomic_read(&threads))
		detach();
	mutex_unlock(&attaching);
}

static DECLARE_DELAYED_WORK(detach_work, detach_unused);

static void reap(struct work_struct *work)
{
	struct llist_node *all = llist_del_all(&ended);
	struct thread *t, *next;

	synchronize_rcu(); /* the scheduler may still have one in hand */
	llist_for_each_entry_safe(t, next, all, ended) free_thread(t);
	if (!atomic_read(&threads))
		mod_delayed_work(system_wq, &detach_work, LINGER);
}

/* ---- KELEVATE_ELEVATE ---- */

/* What user code in ring 0 cannot be had with here, or NULL. */
static const char *obstacle(void)
{
	unsigned long gs;

	rdmsrl(MSR_KERNEL_GS_BASE, gs); /* the user's, while the kernel runs */
	if (gs)
		return "the program uses the GS base";
	if (boot_cpu_has(X86_FEATURE_XENPV))
		return "Xen PV guests have no ring 0";
	if (cc_platform_has(CC_ATTR_GUEST_STATE_ENCRYPT))
		return "a guest with encrypted state (SEV-ES) has exceptions of its own";
	/*
	 * asm/cpufeatures.h, asm/processor-flags.h and Kconfig have the names; where one is not
	 * there, the kernel never turns the thing on
	 */
#ifdef X86_FEATURE_FRED
	if (boot_cpu_has(X86_FEATURE_FRED))
		return "this CPU delivers events by FRED: start Linux with fred=off";
#endif
#ifdef X86_CR4_LASS
	if (native_read_cr4() & X86_CR4_LASS)
		return "linear address-space separation is on: start Linux with clearcpuid=lass";
#endif
#ifdef CONFIG_X86_USER_SHADOW_STACK
	if (current->thread.features)
		return "the program uses a shadow stack";
#endif
	return NULL;
}

static u32 adaptors_needed(void)
{
	u32 all = KELEVATE_ADAPT_STACK | KELEVATE_ADAPT_FAULT | KELEVATE_ADAPT_SYSCALL |
		  KELEVATE_ADAPT_THREADS;

	if (needs_smep())
		all |= KELEVATE_ADAPT_SMEP;
	if (needs_smap())
		all |= KELEVATE_ADAPT_SMAP;
	if (needs_pti())
		all |= KELEVATE_ADAPT_PTI;
	if (needs_ibt())
		all |= KELEVATE_ADAPT_IBT;
	return all;
}

static struct thread *own_thread(void)
{
	struct thread *t;

	preempt_disable();
	t = this_cpu_read(kelevate_thread);
	if (t && t->task != current)
		t = NULL;
	preempt_enable();
	return t;
}

static void start(struct thread *t)
{
	preempt_disable();
	preempt_notifier_register(&t->notifier);
	sched_in(&t->notifier, smp_processor_id());
	preempt_enable();
}

static struct elevation *new_elevation(const struct kelevate_elevation *arg)
{
	struct elevation *e = kzalloc(sizeof(*e), GFP_KERNEL);

	if (!e)
		return NULL;
	refcount_set(&e->users, 1);
	e->flags = arg->flags;
	e->adaptors = adaptors_needed() & ~arg->without;
	return e;
}

/* The first time for this thread.  A reference to the elevation is the caller's. */
static struct elevation *elevate_thread(const struct kelevate_elevation *arg)
{
	struct elevation *e = new_elevation(arg);
	struct thread *t = NULL;
	int err = 0;

	if (!e)
		return ERR_PTR(-ENOMEM);
	mutex_lock(&attaching);
	if (!attached)
		err = attach();
	if (!err) {
		t = new_thread(current, e, GFP_KERNEL);
		err = t ? 0 : -ENOMEM;
	}
	mutex_unlock(&attaching);
	if (err) {
		put_elevation(e);
		schedule_work(&reap_work);
		return ERR_PTR(err);
	}
	t->want = !(arg->flags & KELEVATE_PROGRAM);
	start(t);
	return e;
}

long elevate(struct elevation **program, struct kelevate_elevation __user *user)
{
	struct thread *t = own_thread();
	struct kelevate_elevation arg;
	struct elevation *e;
	const char *why = obstacle();

	if (copy_from_user(&arg, user, sizeof(arg)))
		return -EFAULT;
	if (arg.flags & ~KELEVATE_ELEVATION_FLAGS || arg.without & ~KELEVATE_ADAPTORS)
		return -EINVAL;
	if (why) {
		pr_err_ratelimited("cannot elevate: %s\n", why);
		return -EOPNOTSUPP;
	}
	arg.lower = (unsigned long)kelevate_lower;
	if (copy_to_user(user, &arg, sizeof(arg)))
		return -EFAULT;
	if (t) {
		if (t->elevation->flags & KELEVATE_PROGRAM || arg.flags & KELEVATE_PROGRAM)
			return t->want ? 0 : -EBUSY;
		t->want = true;
		return 0;
	}
	e = elevate_thread(&arg);
	if (IS_ERR(e))
		return PTR_ERR(e);
	if (arg.flags & KELEVATE_PROGRAM && !cmpxchg(program, NULL, e))
		return 0;
	put_elevation(e);
	return 0;
}

/* No thread is left: each holds the module. */
void elevation_exit(void)
{
	irq_work_sync(&ended_irq_work);
	flush_work(&reap_work);
	cancel_delayed_work_sync(&detach_work);
	detach_unused(NULL);
	vectors_exit();
}
