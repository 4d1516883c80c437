/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef PAGEWALK_KMOD_H
#define PAGEWALK_KMOD_H

#define TABLE_ENTRIES 512

enum {
	ENTRY_PRESENT = 1,
	ENTRY_LEAF = 2, /* it maps memory, rather than name a further table */
	ENTRY_WRITE = 4,
	ENTRY_EXECUTE = 8,
	ENTRY_USER = 16,
	ENTRY_ACCESSED = 32,
	ENTRY_DIRTY = 64,
};

struct entry {
	unsigned long physical; /* of the table or of the memory */
	unsigned long flags;
};

/* What the processor starts from when the program's user mode runs. */
struct root {
	unsigned long cr3; /* as it is in the kernel */
	unsigned long physical;
	int levels;   /* 4 or 5 */
	int isolated; /* page-table isolation: user mode has a root of its own, this one */
};

/* 0, or -EFAULT */
int page_table_root(struct root *user);

/*
 * The entries of the table of `level` (1, the lowest, to 5) on the way from the root to `address`.
 * How many they are, 0 where the way ends above; -EINVAL, -ENOMEM or -EFAULT.
 */
int page_table(unsigned long address, int level, struct entry *user);

#endif
