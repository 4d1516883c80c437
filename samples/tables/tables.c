// SPDX-License-Identifier: GPL-2.0-only
/* Prints the interrupt descriptor table and the global descriptor table of one CPU. */
#include <stdio.h>
#include <string.h>
#include "tables_kmod.h"

static const char *gate_type(unsigned char type)
{
	switch (type) {
	case 0xe:
		return "interrupt";
	case 0xf:
		return "trap";
	default:
		return "?";
	}
}

static const char *segment_type(const struct segment *s)
{
	if (s->system)
		return s->type == 2 ? "LDT" : s->type == 9 || s->type == 11 ? "TSS" : "?";
	if (s->type & 8)
		return s->long_mode ? "code, 64-bit" : "code, 32-bit";
	return s->type & 2 ? "data" : "data, read-only";
}

static void print_idt(const struct tables *t)
{
	printf("IDT of CPU %d at %#lx, limit %#x\n", t->cpu, t->idt_base, t->idt_limit);
	printf("vector  segment  type       ist  dpl  handler\n");
	for (int k = 0; k < IDT_ENTRIES; k++) {
		const struct gate *g = &t->idt[k];

		if (g->present)
			printf("%6d  %#7x  %-9s  %3d  %3d  %016lx  %s\n", k, g->segment,
			       gate_type(g->type), g->ist, g->dpl, g->handler, g->name);
	}
}

static void print_gdt(const struct tables *t)
{
	printf("GDT of CPU %d at %#lx, limit %#x\n", t->cpu, t->gdt_base, t->gdt_limit);
	printf("segment  base              limit     dpl  type\n");
	for (int k = 0; k < GDT_SLOTS && t->gdt[k].slots; k += t->gdt[k].slots) {
		const struct segment *s = &t->gdt[k];

		if (s->present)
			printf("%#7x  %016lx  %08lx  %3d  %s\n", k * 8, s->base, s->limit, s->dpl,
			       segment_type(s));
	}
}

int main(void)
{
	static struct tables t;
	int err = read_tables(&t);

	if (err) {
		fprintf(stderr, "tables: %s\n", strerror(-err));
		return 1;
	}
	print_idt(&t);
	print_gdt(&t);
	return 0;
}
