// SPDX-License-Identifier: GPL-2.0-only
/* Everything in a kmod that moves with the kernel, and what does not. */
#include <linux/kernel.h>
#include <linux/percpu.h>
#include <linux/sched.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <asm/processor.h>
#include "kaslr_kmod.h"

extern const char linux_banner[];

/* under other names, so that each is a mere address */
#define NAME(name) extern const char kernel_##name[] __asm__(#name);
#include "kaslr.def"
#undef NAME

#define NAME(name) kernel_##name,
static const void *const in_data[] = {
#include "kaslr.def"
};
#undef NAME

#define NAME(name) *p++ = (unsigned long)kernel_##name;
static void from_code_to(volatile unsigned long *p)
{
#include "kaslr.def"
}
#undef NAME

int GATE(addresses)(unsigned long *user, int from_code)
{
	int count = ARRAY_SIZE(in_data);
	unsigned long *list = kmalloc_array(count, sizeof(*list), GFP_KERNEL);
	int error;

	if (!list)
		return -ENOMEM;
	if (from_code)
		from_code_to(list);
	else
		memcpy(list, in_data, sizeof(in_data));
	error = copy_to_user((void __user *)user, list, count * sizeof(*list)) ? -EFAULT : 0;
	kfree(list);
	return error ?: count;
}

static const char *into_the_middle = init_task.comm + 2;

int GATE(text)(int which, char *user, unsigned long size)
{
	const char *const texts[] = { linux_banner, init_task.comm, into_the_middle };
	size_t length = strlen(texts[which]) + 1;

	return length > size || copy_to_user((void __user *)user, texts[which], length) ? -EFAULT
											: 0;
}

static int plus_one(int x)
{
	return x + 1;
}

struct operations {
	int (*print)(char *text, size_t size, const char *format, ...);
	int (*parse)(const char *text, unsigned int base, int *value);
	int (*own)(int x);
	const struct operations *other;
	struct task_struct *first;
};

static struct operations changeable = {
	.print = scnprintf,
	.parse = kstrtoint,
	.own = plus_one,
	.first = &init_task,
};

static const struct operations constant = {
	.print = snprintf,
	.parse = kstrtoint,
	.own = plus_one,
	.other = &changeable,
	.first = &init_task,
};

static int use(const struct operations *volatile operations)
{
	char text[16];
	int value;

	if (operations->print(text, sizeof(text), "%d", 41) != 2)
		return -1;
	if (operations->parse(text, 10, &value) || value != 41)
		return -2;
	if (operations->own(value) != 42)
		return -3;
	return operations->first == &init_task && operations->first->pid == 0 ? 0 : -4;
}

int GATE(pointers)(void)
{
	int wrong = use(&constant);

	if (!wrong && use(constant.other))
		return -10;
	return wrong;
}

static DEFINE_PER_CPU(long, hits) = 7;
static DEFINE_PER_CPU(struct task_struct *, first_task) = &init_task;

int GATE(percpu)(int cpu, int pid)
{
	if (raw_smp_processor_id() != cpu)
		return -1;
	if (current->pid != pid)
		return -2;
	if (this_cpu_read(this_cpu_off) != __per_cpu_offset[cpu])
		return -3;
	if (this_cpu_read(cpu_info.x86) != boot_cpu_data.x86 || !boot_cpu_data.x86)
		return -4;
	if (per_cpu_ptr(&cpu_info, cpu) != this_cpu_ptr(&cpu_info))
		return -5;
	if (this_cpu_inc_return(hits) != 8 || per_cpu(hits, cpu) != 8)
		return -6;
	if (this_cpu_read(first_task) != &init_task)
		return -7;
	this_cpu_dec(hits);
	return 0;
}
