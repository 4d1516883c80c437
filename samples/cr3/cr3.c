// SPDX-License-Identifier: GPL-2.0-only
/* Prints CR3, which no user program can read, and the privilege level on both sides. */
#include <stdio.h>
#include "cr3_kmod.h"

int main(void)
{
	unsigned short cs;

	asm volatile("mov %%cs, %0" : "=r"(cs));
	printf("privilege level: app %d, kmod %d\n", cs & 3, privilege_level());
	printf("CR3 = %#lx\n", cr3());
	return (cs & 3) == 3 && privilege_level() == 0 && cr3() ? 0 : 1;
}
