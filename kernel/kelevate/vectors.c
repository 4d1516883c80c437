// SPDX-License-Identifier: GPL-2.0-only
/*
 * The alternate interrupt descriptor table, which a CPU has while an elevated thread is on it: all
 * vectors lead through entry.S to the kernel's own handlers.
 *
 * Adaptor stack: a vector that is taken in ring 0 uses the stack that is in use.  For elevated code
 * that is the user's: its red zone would be overwritten, and where the page is not there the
 * processor gives up (a double fault, which a stock kernel does not survive).  So every vector
 * switches to a stack of ours, by two entries of the interrupt stack table that the kernel leaves
 * free, and from there the frame is moved to the thread's kernel stack.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/gfp.h>
#include <linux/percpu.h>
#include <linux/vmalloc.h>
#include <asm/cpu_entry_area.h>
#include <asm/desc.h>
#include <asm/processor.h>
#include <asm/trapnr.h>
#include "entry.h"
#include "elevation.h"

#define FIRST_SLOT 5 /* of ist[]: the kernel uses 0 to 4 (asm/page_64_types.h) */
#define DEBUG_SLOT 2 /* IST_INDEX_DB */

DEFINE_PER_CPU(unsigned long, kelevate_debug_stack);
unsigned long kelevate_handlers[256];

static DEFINE_PER_CPU(struct vector_stack *[2], stacks);
gate_desc *kelevate_tables[2];
static struct desc_ptr stock;

static void load(const gate_desc *table)
{
	const struct desc_ptr idt = { .size = stock.size, .address = (unsigned long)table };

	asm volatile("lidt %0" : : "m"(idt));
}

void vectors_load(const struct thread *t)
{
	load(kelevate_tables[uses(t, KELEVATE_ADAPT_STACK)]);
}

void vectors_unload(void)
{
	asm volatile("lidt %0" : : "m"(stock));
}

static void set_gate(gate_desc *gate, const char *to, int ist)
{
	unsigned long address = (unsigned long)to;

	gate->offset_low = address;
	gate->offset_middle = address >> 16;
	gate->offset_high = address >> 32;
	gate->bits.ist = ist;
}

static void make_table(gate_desc *table, bool switched)
{
	const char *vectors = switched ? kelevate_vectors : kelevate_vectors_in_place;
	int v;

	memcpy(table, (void *)stock.address, stock.size + 1);
	for (v = 0; v < 256; v++) {
		/* exceptions and interrupts apart: one may come before the other has moved on */
		int slot = v < 32 ? FIRST_SLOT : FIRST_SLOT + 1;

		/* those that have a stack of their own keep it */
		if (!table[v].bits.p || (table[v].bits.ist && v != X86_TRAP_DB))
			continue;
		set_gate(&table[v], vectors + VECTOR_SIZE * v, switched ? slot + 1 : 0);
	}
	if (switched)
		set_gate(&table[X86_TRAP_NMI], kelevate_nmi, table[X86_TRAP_NMI].bits.ist);
}

static void free_stacks(int cpu)
{
	struct vector_stack **s = per_cpu(stacks, cpu);
	u64 *slots = &per_cpu(cpu_tss_rw, cpu).x86_tss.ist[FIRST_SLOT];
	int i;

	for (i = 0; i < 2; i++) {
		if (!s[i])
			continue;
		slots[i] = 0;
		free_pages((unsigned long)s[i], get_order(VECTOR_STACK_SIZE));
		s[i] = NULL;
	}
}

static int make_stacks(int cpu)
{
	struct vector_stack **s = per_cpu(stacks, cpu);
	u64 *slots = &per_cpu(cpu_tss_rw, cpu).x86_tss.ist[FIRST_SLOT];
	int i;

	if (slots[0] || slots[1])
		return -EBUSY;
	for (i = 0; i < 2; i++) {
		s[i] = (void *)__get_free_pages(GFP_KERNEL | __GFP_ZERO,
						get_order(VECTOR_STACK_SIZE));
		if (!s[i])
			return -ENOMEM;
	}
	for (i = 0; i < 2; i++) {
		s[i]->slots = slots;
		s[i]->tops[0] = (u64)s[0] + VECTOR_STACK_SIZE;
		s[i]->tops[1] = (u64)s[1] + VECTOR_STACK_SIZE;
	}
	slots[0] = s[0]->tops[0];
	slots[1] = s[0]->tops[1];
	per_cpu(kelevate_debug_stack, cpu) = per_cpu(cpu_tss_rw, cpu).x86_tss.ist[DEBUG_SLOT];
	return 0;
}

int vectors_init(void)
{
	int cpu, v, err = 0;

	BUILD_BUG_ON(offsetof(struct vector_stack, slots) != VECTOR_STACK_SLOTS);
	BUILD_BUG_ON(offsetof(struct vector_stack, tops) != VECTOR_STACK_TOPS);
	if (kelevate_tables[0])
		return 0;
	store_idt(&stock);
	/* somebody else's may be gone tomorrow (samples/idtool, for one) */
	if (stock.address != CPU_ENTRY_AREA_RO_IDT || stock.size != 256 * sizeof(gate_desc) - 1) {
		pr_err("cannot elevate: this CPU's interrupt table is not the kernel's\n");
		return -EBUSY;
	}
	for (v = 0; v < 256; v++)
		kelevate_handlers[v] = gate_offset(&((gate_desc *)stock.address)[v]);
	for_each_possible_cpu(cpu) {
		err = err ?: make_stacks(cpu);
	}
	kelevate_tables[0] = vzalloc(PAGE_SIZE);
	kelevate_tables[1] = vzalloc(PAGE_SIZE);
	if (!err && (!kelevate_tables[0] || !kelevate_tables[1]))
		err = -ENOMEM;
	if (err) {
		vectors_exit();
		return err;
	}
	make_table(kelevate_tables[0], false);
	make_table(kelevate_tables[1], true);
	return 0;
}

void vectors_exit(void)
{
	int cpu;

	for_each_possible_cpu(cpu)
		free_stacks(cpu);
	vfree(kelevate_tables[0]);
	vfree(kelevate_tables[1]);
	kelevate_tables[0] = NULL;
	kelevate_tables[1] = NULL;
}
