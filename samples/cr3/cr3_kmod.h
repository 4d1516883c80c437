/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef CR3_KMOD_H
#define CR3_KMOD_H

/* Control register 3: the physical address of this process's page table, and flags below it. */
unsigned long cr3(void);

/* The low two bits of the code segment selector: the privilege level, 0 in the kernel. */
int privilege_level(void);

#endif
