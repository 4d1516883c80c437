// SPDX-License-Identifier: GPL-2.0-only
/*
 * /dev/kelevate: runs the kernel-style part of a program in ring 0, on the calling thread's own
 * kernel stack, for holders of CAP_SYS_MODULE: the right that already lets one load code into the
 * kernel.  Opening the device loads nothing; a machine without a program that uses it is as
 * before.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/capability.h>
#include <linux/compat.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/pid.h>
#include <linux/ptrace.h>
#include <linux/sched/task_stack.h>
#include <linux/security.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>
#include "elevation.h"
#include "entry.h"
#include "internal.h"

/* What an open file holds. */
struct slot {
	struct mutex lock; /* one load at a time */
	struct instance *instance;
	struct elevation *program; /* that was elevated through this file */
	struct pid *first;	   /* process that made its first gate, held: it is in the log */
	u64 exec;		   /* which program of that process */
	const struct cred *cred;   /* that may elevate, held */
};

/* ---- who may ---- */

/*
 * Words and structures of kernel code are not those of a 32-bit or x32 program, whichever system
 * call it comes by; nor those of a 32-bit system call.
 */
static int may_elevate(void)
{
	if (unlikely(test_thread_flag(TIF_ADDR32) || in_compat_syscall()))
		return -EPERM;
	return capable(CAP_SYS_MODULE) ? 0 : -EPERM;
}

/* More is asked for than for gates. */
static int may_load(void)
{
	if (READ_ONCE(*kernel.modules_disabled))
		return -EPERM;
	return security_locked_down(LOCKDOWN_MODULE_SIGNATURE);
}

/*
 * As may_elevate(), cheaply: credentials are never changed in place, so the answer for the ones
 * that were asked for last holds, as long as they are held.
 */
static int may_elevate_again(struct slot *slot)
{
	const struct cred *cred = current_cred();
	int err;

	if (likely(READ_ONCE(slot->cred) == cred && !in_compat_syscall() &&
		   !test_thread_flag(TIF_ADDR32)))
		return 0;
	err = may_elevate();
	if (!err)
		put_cred(xchg(&slot->cred, get_cred(cred)));
	return err;
}

/* Lockdown can be raised after an image was loaded, and its gates are ways for root too. */
static int may_call(struct slot *slot)
{
	int err = may_elevate_again(slot);

	if (unlikely(err))
		return err;
	if (likely(kernel.kernel_locked_down && !READ_ONCE(*kernel.kernel_locked_down)))
		return 0;
	return security_locked_down(LOCKDOWN_MODULE_SIGNATURE);
}

/* ---- the gate ---- */

/* rax and rdx, as a function returns them */
struct words2 {
	u64 rax;
	u64 rdx;
};

/*
 * The calling convention puts a structure that is passed by value on the stack, word by word,
 * behind nothing else: so a call with one passes any stack words.  Words that the function does
 * not take do no harm.
 */
#define STACK_CALL(n)                                                                         \
	struct stack##n {                                                                     \
		u64 w[n];                                                                     \
	};                                                                                    \
	static noinline int call_with_##n(void *function, struct pt_regs *r, u32 words,       \
					  struct words2 *result)                              \
	{                                                                                     \
		struct words2 (*f)(u64, u64, u64, u64, u64, u64, struct stack##n) = function; \
		struct stack##n s = {};                                                       \
                                                                                              \
		if (copy_from_user(&s, (void __user *)r->sp + 32, words * sizeof(*s.w)))      \
			return -EFAULT;                                                       \
		*result = f(r->bx, r->bp, r->r12, r->r10, r->r8, r->r9, s);                   \
		return 0;                                                                     \
	}

STACK_CALL(4)
STACK_CALL(32)
STACK_CALL(64)

/* Too many for two copies on the kernel stack: the rest of them waits in the heap. */
struct stack256 {
	u64 w[KELEVATE_MAX_STACK_WORDS];
};

static noinline int call_with_256(void *function, struct pt_regs *r, u32 words,
				  struct words2 *result)
{
	struct words2 (*f)(u64, u64, u64, u64, u64, u64, struct stack256) = function;
	struct stack256 *s = kzalloc(sizeof(*s), GFP_KERNEL);
	int err = s ? 0 : -ENOMEM;

	if (!err && copy_from_user(s, (void __user *)r->sp + 32, words * sizeof(*s->w)))
		err = -EFAULT;
	if (!err)
		*result = f(r->bx, r->bp, r->r12, r->r10, r->r8, r->r9, *s);
	kfree(s);
	return err;
}

static int call_with_stack(void *function, struct pt_regs *r, u32 words, struct words2 *result)
{
	if (words <= 4)
		return call_with_4(function, r, words, result);
	if (words <= 32)
		return call_with_32(function, r, words, result);
	if (words <= 64)
		return call_with_64(function, r, words, result);
	return call_with_256(function, r, words, result);
}

#define GATE_BITS 16 /* of KELEVATE_CALL's argument; the rest tells the image */

/* Two images of a process may swap file descriptors: the file must hold the very one. */
static bool is_image(const struct instance *inst, u64 content)
{
	return inst->content >> PAGE_SHIFT == content >> PAGE_SHIFT;
}

static int run_gate(const struct instance *inst, const struct kelevate_gate *gate,
		    struct pt_regs *r, struct words2 *result)
{
	struct words2 (*f)(u64, u64, u64, u64, u64, u64) = inst->base + gate->offset;

	if (unlikely(gate->offset + 1 == inst->init)) {
		*result = (struct words2){ inst->init_result, 0 };
		return 0;
	}
	if (unlikely(inst->init_result < 0))
		return -ECANCELED;
	if (unlikely(gate->stack_words))
		return call_with_stack(f, r, gate->stack_words, result);
	*result = f(r->bx, r->bp, r->r12, r->r10, r->r8, r->r9);
	return 0;
}

/* The first time in a process: a line in the log. */
static void log_use(struct slot *slot, const char *what)
{
	struct pid *pid = task_tgid(current), *first;

	/* of this function's end: exec is that process's */
	first = smp_load_acquire(&slot->first);
	if (likely(first == pid && slot->exec == current->self_exec_id))
		return;
	log_elevation(what);
	if (first)
		return;
	mutex_lock(&slot->lock);
	if (!slot->first) {
		slot->exec = current->self_exec_id;
		/* to be seen after exec is */
		smp_store_release(&slot->first, get_pid(pid));
	}
	mutex_unlock(&slot->lock);
}

static long call(struct slot *slot, unsigned long arg)
{
	/* of load_locked() and attach(): whole, once it is seen */
	struct instance *inst = smp_load_acquire(&slot->instance);
	unsigned long index = arg & ((1ul << GATE_BITS) - 1);
	struct pt_regs *r = task_pt_regs(current);
	struct words2 result;
	int err;

	if (unlikely(!inst || !is_image(inst, arg >> GATE_BITS << PAGE_SHIFT)))
		return -ENOTTY;
	if (unlikely(index >= inst->ngates))
		return -ERANGE;
	err = may_call(slot);
	if (unlikely(err))
		return err;
	log_use(slot, inst->mod->name);
	err = run_gate(inst, &inst->gates[index], r, &result);
	if (unlikely(err))
		return err;
	r->dx = result.rax;
	r->si = result.rdx;
	r->di = KELEVATE_DONE;
	return 0;
}

static loff_t kelevate_llseek(struct file *file, loff_t arg, int whence)
{
	if (unlikely(whence != KELEVATE_CALL))
		return -ESPIPE;
	return call(file->private_data, arg);
}

/* ---- loading and attaching ---- */

static const struct file_operations fops;

/* The file through which an instance is mapped at a user address, with a reference; or NULL. */
static struct file *file_mapped_at(unsigned long address)
{
	struct vm_area_struct *vma;
	struct file *file = NULL;

	mmap_read_lock(current->mm);
	vma = find_vma(current->mm, address);
	if (vma && vma->vm_start <= address && vma->vm_file && vma->vm_file->f_op == &fops)
		file = get_file(vma->vm_file);
	mmap_read_unlock(current->mm);
	return file;
}

/* An image that is live already is patched code: it must not be taken for fresh content. */
static int check_not_live(u64 content)
{
	struct file *file = file_mapped_at(content);

	if (!file)
		return 0;
	fput(file);
	return -EEXIST;
}

static int load_locked(struct slot *slot, const struct kelevate_image __user *image)
{
	struct instance *inst = slot->instance;
	u64 content;
	int err;

	if (get_user(content, &image->content))
		return -EFAULT;
	if (inst) /* nothing is loaded: for the program to know whose file it is */
		return is_image(inst, content) ? 0 : -ENOTTY;
	err = may_load() ?: check_not_live(content);
	if (err)
		return err;
	inst = instance_load(image);
	if (IS_ERR(inst))
		return PTR_ERR(inst);
	/* gates and page faults look without the lock: it is finished before it is seen */
	smp_store_release(&slot->instance, inst);
	return 0;
}

static long load(struct slot *slot, const struct kelevate_image __user *image)
{
	long err = may_elevate();

	if (err)
		return err;
	if (mutex_lock_interruptible(&slot->lock))
		return -ERESTARTSYS;
	err = load_locked(slot, image);
	mutex_unlock(&slot->lock);
	return err;
}

static long attach(struct slot *slot, unsigned long address)
{
	struct slot *other;
	struct file *file;
	long err = may_elevate();

	if (err)
		return err;
	file = file_mapped_at(address);
	if (!file)
		return -ENOENT;
	other = file->private_data;
	mutex_lock(&slot->lock);
	if (slot->instance) {
		err = slot->instance == other->instance ? 0 : -ENOTTY;
	} else {
		kref_get(&other->instance->users); /* it is mapped, so there is one */
		/* as in load_locked() */
		smp_store_release(&slot->instance, other->instance);
	}
	mutex_unlock(&slot->lock);
	fput(file);
	return err;
}

/* ---- user code in ring 0, and kernel functions by address ---- */

static long elevate_caller(struct slot *slot, struct kelevate_elevation __user *arg)
{
	long err = may_elevate() ?: may_load();

	if (err)
		return err;
	log_use(slot, "user code in ring 0");
	return elevate(&slot->program, arg);
}

static long invoke(struct slot *slot, struct kelevate_invocation __user *user)
{
	struct kelevate_invocation i;
	long err = may_call(slot);

	if (err)
		return err;
	if (copy_from_user(&i, user, sizeof(i)))
		return -EFAULT;
	if (i.function < TASK_SIZE_MAX)
		return -EINVAL;
	log_use(slot, "kernel functions by address");
	i.result = kelevate_invoke(i.function, i.words);
	return put_user(i.result, &user->result);
}

static long count(const struct slot *slot, struct kelevate_counts __user *user)
{
	const struct elevation *e = READ_ONCE(slot->program);
	struct kelevate_counts counts = {};
	int i;

	if (!e)
		return -ENODATA;
	for (i = 0; i < KELEVATE_TICKS; i++)
		counts.ticks[i] = atomic64_read(&e->ticks[i]);
	counts.threads = atomic64_read(&e->threads);
	return copy_to_user(user, &counts, sizeof(counts)) ? -EFAULT : 0;
}

static long kelevate_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct slot *slot = file->private_data;

	switch (cmd) {
	case KELEVATE_LOAD:
		return load(slot, (const void __user *)arg);
	case KELEVATE_ATTACH:
		return attach(slot, arg);
	case KELEVATE_ELEVATE:
		return elevate_caller(slot, (void __user *)arg);
	case KELEVATE_INVOKE:
		return invoke(slot, (void __user *)arg);
	case KELEVATE_COUNT:
		return count(slot, (void __user *)arg);
	}
	return -ENOTTY;
}

/* ---- the process's view of its image: the instance's own pages, to read ---- */

static vm_fault_t kelevate_fault(struct vm_fault *vmf)
{
	const struct slot *slot = vmf->vma->vm_file->private_data;
	/* as in call() */
	struct instance *inst = smp_load_acquire(&slot->instance);
	unsigned long offset = vmf->pgoff << PAGE_SHIFT;

	if (!inst || vmf->pgoff >= inst->end >> PAGE_SHIFT)
		return VM_FAULT_SIGBUS;
	vmf->page = vmalloc_to_page(inst->base + offset);
	if (!vmf->page)
		return VM_FAULT_SIGBUS;
	get_page(vmf->page);
	return 0;
}

static const struct vm_operations_struct kelevate_vm_ops = {
	.fault = kelevate_fault,
};

static int kelevate_mmap(struct file *file, struct vm_area_struct *vma)
{
	const struct slot *slot = file->private_data;
	int err = may_elevate();

	if (err)
		return err;
	/* as in call() */
	if (!smp_load_acquire(&slot->instance))
		return -ENODEV;
	if (vma->vm_flags & (VM_WRITE | VM_EXEC))
		return -EPERM;
#ifdef HAVE_VM_FLAGS_MOD
	vm_flags_mod(vma, VM_DONTEXPAND | VM_DONTDUMP, VM_MAYWRITE | VM_MAYEXEC);
#else
	vma->vm_flags |= VM_DONTEXPAND | VM_DONTDUMP;
	vma->vm_flags &= ~(VM_MAYWRITE | VM_MAYEXEC);
#endif
	vma->vm_ops = &kelevate_vm_ops;
	return 0;
}

static int kelevate_open(struct inode *inode, struct file *file)
{
	struct slot *slot;
	int err = may_elevate();

	if (err)
		return err;
	slot = kzalloc(sizeof(*slot), GFP_KERNEL);
	if (!slot)
		return -ENOMEM;
	mutex_init(&slot->lock);
	file->private_data = slot;
	return 0;
}

static int kelevate_release(struct inode *inode, struct file *file)
{
	struct slot *slot = file->private_data;

	if (slot->instance)
		instance_put(slot->instance);
	put_elevation(slot->program);
	put_cred(slot->cred);
	put_pid(slot->first);
	kfree(slot);
	return 0;
}

static const struct file_operations fops = {
	.owner = THIS_MODULE,
	.open = kelevate_open,
	.release = kelevate_release,
	.llseek = kelevate_llseek,
	.unlocked_ioctl = kelevate_ioctl,
	.mmap = kelevate_mmap,
};

static struct miscdevice device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "kelevate",
	.fops = &fops,
	.mode = 0600,
};

static int __init kelevate_init(void)
{
	int err = find_kernel_functions() ?: endings_start();

	if (err)
		return err;
	err = misc_register(&device);
	if (err)
		endings_stop();
	return err;
}

static void __exit kelevate_exit(void)
{
	misc_deregister(&device);
	elevation_exit();
	endings_stop();
	faults_stop();
	log_end();
}

module_init(kelevate_init);
module_exit(kelevate_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Runs the kernel-style part of a program in ring 0 (Dynamic Privilege)");
