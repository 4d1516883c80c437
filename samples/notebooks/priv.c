// SPDX-License-Identifier: GPL-2.0-only
/*
 * An ordinary library: no kernel header, nothing of kbridge.  Whether its instructions are allowed
 * is a matter of the thread that calls it.
 */

/* Control register 3, where the processor finds the page table.  Only ring 0 may read it. */
unsigned long cr3(void)
{
	unsigned long value;

	asm volatile("mov %%cr3, %0" : "=r"(value));
	return value;
}

/* The low two bits of the code segment selector. */
int ring(void)
{
	unsigned short cs;

	asm volatile("mov %%cs, %0" : "=r"(cs));
	return cs & 3;
}

/* Where the processor finds the interrupt descriptor table: 2 bytes of limit, 8 of address. */
void sidt(unsigned char *answer)
{
	asm volatile("sidt (%0)" : : "r"(answer) : "memory");
}

/* What a call from Python costs by itself. */
void nothing(void)
{
}
