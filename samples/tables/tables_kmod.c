// SPDX-License-Identifier: GPL-2.0-only
/* Reads the tables where the processor itself reads them: sidt and sgdt say where that is. */
#include <linux/kernel.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/preempt.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/uaccess.h>
#include <asm/desc.h>
#include "tables_kmod.h"

static_assert(IDT_ENTRIES == NR_VECTORS);
static_assert(GDT_SLOTS >= GDT_ENTRIES);

static void read_gate(const gate_desc *from, struct gate *to)
{
	to->handler = gate_offset(from);
	to->segment = gate_segment(from);
	to->ist = from->bits.ist;
	to->type = from->bits.type;
	to->dpl = from->bits.dpl;
	to->present = from->bits.p;
	snprintf(to->name, sizeof(to->name), "%ps", (void *)to->handler);
}

static void read_segment(const struct desc_struct *from, struct segment *to)
{
	const struct ldttss_desc *wide = (const struct ldttss_desc *)from;

	to->present = from->p;
	to->system = !from->s;
	to->type = from->type;
	to->dpl = from->dpl;
	to->long_mode = from->l;
	to->base = get_desc_base(from);
	to->limit = get_desc_limit(from);
	if (from->g)
		to->limit = to->limit << PAGE_SHIFT | ~PAGE_MASK;
	/* a TSS or an LDT: in 64-bit mode the upper half of the base follows */
	to->slots = from->p && !from->s ? 2 : 1;
	if (to->slots == 2)
		to->base |= (unsigned long)wide->base3 << 32;
}

static void read_all(struct tables *t)
{
	const gate_desc *idt;
	const struct desc_struct *gdt;
	struct desc_ptr idtr, gdtr;
	unsigned int k, slots;

	t->cpu = get_cpu(); /* every CPU has registers of its own */
	store_idt(&idtr);
	native_store_gdt(&gdtr);
	t->idt_base = idtr.address;
	t->idt_limit = idtr.size;
	t->gdt_base = gdtr.address;
	t->gdt_limit = gdtr.size;
	idt = (const gate_desc *)idtr.address;
	for (k = 0; k < min(IDT_ENTRIES, (idtr.size + 1) / (int)sizeof(*idt)); k++)
		read_gate(idt + k, t->idt + k);
	gdt = (const struct desc_struct *)gdtr.address;
	slots = min(GDT_SLOTS, (gdtr.size + 1) / (int)sizeof(*gdt));
	for (k = 0; k < slots; k += t->gdt[k].slots)
		read_segment(gdt + k, t->gdt + k);
	put_cpu();
}

int read_tables(struct tables *user)
{
	struct tables *t = kzalloc(sizeof(*t), GFP_KERNEL); /* too large for a kernel stack */
	int err;

	if (!t)
		return -ENOMEM;
	read_all(t);
	err = copy_to_user((void __user *)user, t, sizeof(*t)) ? -EFAULT : 0;
	kfree(t);
	return err;
}
