// SPDX-License-Identifier: GPL-2.0-only
/*
 * The paper's Figure 4.2: between kb_elevate() and kb_lower() the app's own instructions run in
 * ring 0, so it reads CR3 itself.  What the kernel thinks this process's page table is comes from
 * the kmod, by a gate, which works in a bracket as it does outside.
 */
#include <kbridge.h>
#include <stdio.h>
#include "bracket_kmod.h"

static int ring(void)
{
	unsigned short cs;

	__asm__ volatile("mov %%cs, %0" : "=r"(cs));
	return cs & 3;
}

static unsigned long read_cr3(void)
{
	unsigned long value;

	__asm__ volatile("mov %%cr3, %0" : "=r"(value));
	return value;
}

int main(void)
{
	unsigned long cr3, table;
	int before = ring(), inside;

	if (kb_elevate()) {
		perror("kb_elevate");
		return 1;
	}
	inside = ring();
	cr3 = read_cr3();
	table = page_table();
	kb_lower();

	printf("ring %d, in the bracket %d, after it %d\n", before, inside, ring());
	printf("CR3 = %#lx\n", cr3);
	printf("the kernel's page table of this process: %#lx\n", table);
	return before == 3 && inside == 0 && ring() == 3 && (cr3 & ~0xffful) == table ? 0 : 1;
}
