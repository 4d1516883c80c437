/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef TABLES_KMOD_H
#define TABLES_KMOD_H

#define IDT_ENTRIES 256
#define GDT_SLOTS 32 /* at the most, of 8 bytes; an entry of a system segment takes two */

struct gate {
	unsigned long handler;
	char name[48]; /* the handler's */
	unsigned short segment;
	unsigned char ist, type, dpl, present;
};

struct segment {
	unsigned long base, limit; /* limit: in bytes, the last one that is in */
	unsigned char system, type, dpl, present, long_mode, slots;
};

/* The two tables of one CPU.  `base` and `limit` are what its registers IDTR and GDTR hold. */
struct tables {
	int cpu;
	unsigned long idt_base, gdt_base;
	unsigned short idt_limit, gdt_limit;
	struct gate idt[IDT_ENTRIES];
	struct segment gdt[GDT_SLOTS];
};

/* Fills `user` with the tables of the CPU that the caller is on; 0, -ENOMEM or -EFAULT. */
int read_tables(struct tables *user);

#endif
