// SPDX-License-Identifier: GPL-2.0-only
/* A privileged register, read by inline assembly.  In user mode this instruction faults. */
#include "cr3_kmod.h"

unsigned long cr3(void)
{
	unsigned long value;

	asm volatile("mov %%cr3, %0" : "=r"(value));
	return value;
}

int privilege_level(void)
{
	unsigned short cs;

	asm volatile("mov %%cs, %0" : "=r"(cs));
	return cs & 3;
}
