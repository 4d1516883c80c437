/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Interrupt descriptor tables: the kernel's own, and copies of it in kernel memory, which can stay
 * there, as the paper's do, when this program has ended.
 *
 * Functions that return an int return 0 or a negative error number.
 */
#ifndef IDTOOL_KMOD_H
#define IDTOOL_KMOD_H

#define IDT_ENTRIES 256

struct idt_register {
	unsigned long address;
	unsigned short limit; /* bytes, less one */
};

struct idt_entry {
	unsigned long handler;
	char name[48]; /* the handler's */
	unsigned short segment;
	unsigned char ist, type, dpl, present;
};

/* What is in use on a CPU. */
int idt_get(int cpu, struct idt_register *user);

/* An entry of a table at any address; -EFAULT if there is no memory. */
int idt_read(unsigned long address, int vector, struct idt_entry *user);

/*
 * Puts the address of a new copy of what is in use on a CPU into `user`.  One that does not `stay`
 * goes with idt_restore(); there is one such at a time.
 */
int idt_copy(int cpu, int stay, unsigned long *user);

/* -EINVAL if that is no copy, -EBUSY if it is in use. */
int idt_free(unsigned long copy);

/* As idt_free(); also -EINVAL if the handler is no kernel code or there is no such stack. */
int idt_set_handler(unsigned long copy, int vector, unsigned long handler);
int idt_set_stack(unsigned long copy, int vector, int ist);

/*
 * Has a copy's vector go through code that counts and then jumps to the handler.  Once only, since
 * there is one counter.
 */
int idt_count(unsigned long copy, int vector);
unsigned long idt_counted(void);

/*
 * Installs a copy on a CPU until idt_restore() or the end of this program, however it ends.
 * -EBUSY if the CPU does not use the kernel's own table, -EOPNOTSUPP with page-table isolation,
 * -ENODEV where the processor does not use our tables at all.
 */
int idt_install(int cpu, unsigned long copy);
void idt_restore(void);

#endif
