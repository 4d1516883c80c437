// SPDX-License-Identifier: GPL-2.0-only
/* What bracket.c and bracket_ends.c have done and seen in the kernel. */
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/nmi.h>
#include <linux/percpu.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/uaccess.h>
#include <asm/apic.h>
#include <asm/nmi.h>
#include <asm/processor.h>
#include <asm/special_insns.h>
#include "bracket_kmod.h"

/* ---- counts and a list ---- */

static DEFINE_MUTEX(lock);
static LIST_HEAD(nodes);
static DEFINE_PER_CPU(long, hits);
static long length;

struct entry {
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

long append(long value)
{
	struct entry *entry = kmalloc(sizeof(*entry), GFP_KERNEL);

	if (!entry)
		return -ENOMEM;
	entry->value = value;
	mutex_lock(&lock);
	list_add_tail(&entry->link, &nodes);
	length++;
	mutex_unlock(&lock);
	return 0;
}

/* The oldest value, which leaves the list. */
long take(void)
{
	struct entry *entry;
	long value = -ENOENT;

	mutex_lock(&lock);
	entry = list_first_entry_or_null(&nodes, struct entry, link);
	if (entry) {
		value = entry->value;
		list_del(&entry->link);
		length--;
	}
	mutex_unlock(&lock);
	kfree(entry);
	return value;
}

long list_length(void)
{
	return length;
}

/* ---- protection ---- */

long on_cpu(void)
{
	return raw_smp_processor_id();
}

/* Whether the processor that runs this has both; and the kernel runs with AC clear. */
int protected(void)
{
	unsigned long wanted = X86_CR4_SMEP | X86_CR4_SMAP;

	return (native_read_cr4() & wanted) == wanted && !(native_save_fl() & X86_EFLAGS_AC);
}

static void look(void *without)
{
	if (!protected())
		atomic_inc(without);
}

/* From an interrupt of each processor: how many have both. */
int protected_everywhere(void)
{
	atomic_t without = ATOMIC_INIT(0);

	on_each_cpu(look, &without, 1);
	return num_online_cpus() - atomic_read(&without);
}

/* Not how kernel code reads an app's memory: SMAP is there to stop this. */
long touch(const long *user)
{
	return *(const volatile long *)user;
}

/* And SMEP this. */
long enter(long (*function)(void))
{
	return function();
}

/* ---- kernel functions by address, and the kernel's own state ---- */

static noinline unsigned long six(unsigned long a, unsigned long b, unsigned long c,
				  unsigned long d, unsigned long e, unsigned long f)
{
	might_sleep();
	return a + (b << 4) + (c << 8) + (d << 12) + (e << 16) + (f << 60);
}

unsigned long address_of_six(void)
{
	return (unsigned long)six;
}

unsigned long kernel_word(unsigned long address)
{
	return *(unsigned long *)address;
}

/* Entries of the interrupt stack tables that the kernel leaves free, and somebody has. */
int interrupt_stacks(void)
{
	int cpu, used = 0;

	for_each_possible_cpu(cpu) {
		const struct tss_struct *tss = &per_cpu(cpu_tss_rw, cpu);

		used += !!tss->x86_tss.ist[5] + !!tss->x86_tss.ist[6];
	}
	return used;
}

/* ---- non-maskable interrupts ---- */

static DEFINE_PER_CPU(long, nmis);
static DEFINE_PER_CPU(long, nmi_faulted);
static bool watching;

/* Faults twice, as an NMI handler may: the first iret lets the next one in before this ends. */
static int on_nmi(unsigned int type, struct pt_regs *regs)
{
	long word, k;

	for (k = 0; k < 2; k++)
		if (copy_from_kernel_nofault(&word, (void *)0xffff808000000000, sizeof(word)))
			this_cpu_inc(nmi_faulted);
	this_cpu_inc(nmis);
	return NMI_HANDLED;
}

int nmi_start(void)
{
	int err = register_nmi_handler(NMI_LOCAL, on_nmi, 0, "bracket");

	watching = !err;
	return err;
}

/* `count` of them to another processor, each after the one before was served; how many were not. */
long nmi_send(int cpu, long count)
{
	long sent, lost = 0, before, waited;

	for (sent = 0; sent < count; sent++) {
		before = per_cpu(nmis, cpu);
		preempt_disable();
		apic->send_IPI(cpu, NMI_VECTOR);
		preempt_enable();
		for (waited = 0; READ_ONCE(per_cpu(nmis, cpu)) == before; waited++) {
			if (waited > 200000) {
				lost++;
				break;
			}
			cond_resched();
			cpu_relax();
		}
	}
	return lost;
}

long nmi_seen(int cpu)
{
	return per_cpu(nmis, cpu);
}

long nmi_faults(void)
{
	long sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += per_cpu(nmi_faulted, cpu);
	return sum;
}

void nmi_stop(void)
{
	if (watching)
		unregister_nmi_handler(NMI_LOCAL, "bracket");
	watching = false;
}

/* Else the image would stay, as the kernel may call on_nmi(). */
static void __exit bracket_exit(void)
{
	nmi_stop();
}

module_exit(bracket_exit);
MODULE_LICENSE("GPL");
