// SPDX-License-Identifier: GPL-2.0-only
/* Functions that nearly fill what a kmod may take of the kernel stack, and how far they got. */
#include <linux/kernel.h>
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/irqflags.h>
#include <linux/sched.h>
#include <linux/sched/task_stack.h>
#include <linux/vmalloc.h>
#include "stack_kmod.h"

#define PATTERN 0x5a5aa5a5deadbeefUL

long left(void)
{
	return current_stack_pointer - (unsigned long)task_stack_page(current);
}

/* each frame is below CONFIG_FRAME_WARN */
#define LEVEL(name, call)                           \
	static noinline long name(int n)            \
	{                                           \
		volatile char bytes[1960];          \
		int i;                              \
                                                    \
		for (i = 0; i < sizeof(bytes); i++) \
			bytes[i] = n + i;           \
		return (call) + bytes[n & 1023];    \
	}

LEVEL(fifth, 0)
LEVEL(fourth, fifth(n + 1))
LEVEL(third, fourth(n + 1))
LEVEL(second, third(n + 1))
LEVEL(first, second(n + 1))

long deep(int n)
{
	return first(n) + first(n + 1);
}

/* the end of the stack has the kernel's mark */
static unsigned long *lowest(void)
{
	return end_of_stack(current) + 8;
}

static noinline void fill(void)
{
	volatile unsigned long *place = lowest();

	while ((unsigned long)place < current_stack_pointer)
		*place++ = PATTERN;
}

static noinline long touched_below(unsigned long top)
{
	volatile unsigned long *place = lowest();

	while (*place == PATTERN)
		place++;
	return top - (unsigned long)place;
}

long used_by_deep(int n)
{
	unsigned long flags, top;
	long used;

	local_irq_save(flags); /* interrupts begin on this stack */
	top = current_stack_pointer;
	fill();
	deep(n);
	used = touched_below(top);
	local_irq_restore(flags);
	return used;
}

long used_by_kernel(int what)
{
	unsigned long top = current_stack_pointer;
	struct file *file;
	loff_t position = 0;

	fill();
	switch (what) {
	case 0:
		printk("stack test: %d %s\n", what, current->comm);
		break;
	case 1:
		vfree(vmalloc(1 << 20));
		break;
	case 2:
		msleep(20);
		break;
	case 3:
		file = filp_open("/tmp/stack", O_RDWR | O_CREAT, 0600);
		if (IS_ERR(file))
			return PTR_ERR(file);
		kernel_write(file, "text", 4, &position);
		filp_close(file, NULL);
		break;
	}
	return touched_below(top);
}
