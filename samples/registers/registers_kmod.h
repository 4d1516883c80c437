/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef REGISTERS_KMOD_H
#define REGISTERS_KMOD_H

/* The privileged registers of one CPU, as they are while one of the program's threads runs. */
struct registers {
	int cpu;
	unsigned long cr0, cr2, cr3, cr4, cr8;
	unsigned long efer, star, lstar, cstar, sfmask; /* model-specific: system calls */
	unsigned long fs_base, gs_base, kernel_gs_base; /* GS: the kernel's, and the user's */
	unsigned long apic_base, pat;
	char lstar_name[64], cstar_name[64]; /* symbols of the kernel */
};

/* Fills `user` with the registers of the CPU that the caller is on; 0, or -EFAULT. */
int read_registers(struct registers *user);

#endif
