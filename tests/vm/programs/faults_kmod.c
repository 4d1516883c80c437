// SPDX-License-Identifier: GPL-2.0-only
/* Every fault that kernel code can make, a function each: the oops must name that very function. */
#include <linux/bug.h>
#include <linux/delay.h>
#include <linux/irqflags.h>
#include <linux/mutex.h>
#include <linux/pid.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/vmalloc.h>
#include <asm/special_insns.h>
#include "faults_kmod.h"

#define NONCANONICAL 0x1234567890abcdeful

extern const char linux_banner[];

static const int constant = 7;
static DEFINE_MUTEX(mutex);
static DEFINE_SPINLOCK(spinlock);

/* To gcc an address as good as any. */
static void *hidden(unsigned long address)
{
	OPTIMIZER_HIDE_VAR(address);
	return (void *)address;
}

int task(void)
{
	return task_tgid_nr(current);
}

int null_read(void *page)
{
	return *(volatile int *)hidden(0);
}

int null_write(void *page)
{
	*(volatile int *)hidden(0) = 1;
	return 0;
}

/* The call is not the last thing that it does, so its frame is there to be named. */
static int call(unsigned long address)
{
	int (*function)(void) = hidden(address);

	return function() + 1;
}

int null_call(void *page)
{
	return call(0) + 1;
}

int noncanonical_call(void *page)
{
	return call(NONCANONICAL) + 1;
}

int user_call(void *page)
{
	return call((unsigned long)page) + 1;
}

int divide(void *page)
{
	volatile int zero = 0;

	return 100 / zero;
}

/* As a compiler's "unreachable", without the kernel's table that makes it a BUG(). */
int invalid_opcode(void *page)
{
	asm volatile(".byte 0x0f, 0xff, 0xc0"); /* ud0 */
	return 0;
}

int bug(void *page)
{
	BUG_ON(page != NULL);
	return 0;
}

int breakpoint(void *page)
{
	asm volatile("int3");
	return 0;
}

int noncanonical_read(void *page)
{
	return *(volatile int *)hidden(NONCANONICAL);
}

int double_free(void *page)
{
	void *memory = kmalloc(64, GFP_KERNEL);

	kfree(memory);
	kfree(hidden((unsigned long)memory));
	return 0;
}

int use_after_vfree(void *page)
{
	void *memory = vmalloc(PAGE_SIZE), *kept = hidden((unsigned long)memory);

	if (!memory)
		return -ENOMEM;
	vfree(memory);
	return *(volatile int *)kept;
}

/* Without copy_from_user(). */
int user_read(void *page)
{
	return *(volatile int *)page;
}

/* In the image's text.  To take a function's address is to be called back, to kbridge. */
static noinline char *return_address(void)
{
	return __builtin_return_address(0);
}

int write_own_text(void *page)
{
	*(volatile char *)return_address() = 0;
	return 0;
}

int write_own_constant(void *page)
{
	*(volatile int *)hidden((unsigned long)&constant) = 8;
	return constant;
}

int write_kernel_constant(void *page)
{
	*(volatile char *)hidden((unsigned long)linux_banner) = 'l';
	return 0;
}

/* Past an array's end, over the word by which the stack protector knows. */
int smashed_stack(void *page)
{
	char array[16];
	volatile char *p = hidden((unsigned long)array);
	int k;

	for (k = 0; k < 32; k++)
		p[k] = 0x55;
	return array[3];
}

static noinline int innermost(void)
{
	return *(volatile int *)hidden(0) + 1;
}

static noinline int middle(void)
{
	return innermost() + 1;
}

int nested(void *page)
{
	return middle() + 1;
}

/* What it holds stays locked. */
int mutex_held(void *page)
{
	int value;

	mutex_lock(&mutex);
	value = *(volatile int *)hidden(0);
	mutex_unlock(&mutex);
	return value;
}

int spinlock_held(void *page)
{
	int value;

	spin_lock(&spinlock);
	value = *(volatile int *)hidden(0);
	spin_unlock(&spinlock);
	return value;
}

int locks_held(void)
{
	return mutex_is_locked(&mutex) + spin_is_locked(&spinlock);
}

int warn(void *page)
{
	return WARN_ON(page != NULL) ? 0 : 1;
}

int sleep_in_atomic(void *page)
{
	spin_lock(&spinlock);
	msleep(20);
	spin_unlock(&spinlock);
	return 0;
}

/* ---- what the machine does not survive ---- */

static noinline int deeper(volatile char *above, int depth)
{
	volatile char room[256];

	room[depth & 255] = above[depth & 255];
	return depth ? deeper(room, depth - 1) + room[depth & 127] : 0;
}

int deep_recursion(void *page)
{
	volatile char room[256] = {};

	return deeper(room, 1 << 20);
}

int interrupts_off(void *page)
{
	local_irq_disable();
	for (;;)
		cpu_relax();
	return 0;
}

/* What every system call and interrupt runs through, with write protection off. */
int write_kernel_text(void *page)
{
	unsigned long cr0 = native_read_cr0();
	char *text = hidden((unsigned long)schedule);

	local_irq_disable();
	asm volatile("mov %0, %%cr0" : : "r"(cr0 & ~X86_CR0_WP) : "memory");
	memset(text, 0xcc, 64);
	asm volatile("mov %0, %%cr0" : : "r"(cr0) : "memory");
	local_irq_enable();
	schedule();
	return 0;
}
