/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Five privileged instructions.  App and kmod compile the same lines: in the app they fault, in
 * the kmod they work.
 */
#ifndef INSTRUCTIONS_KMOD_H
#define INSTRUCTIONS_KMOD_H

#define MSR_SYSCALL_ENTRY 0xc0000082u /* LSTAR: where the syscall instruction jumps to */
#define CMOS_INDEX 0x70		      /* I/O ports of the clock that runs on a battery */
#define CMOS_DATA 0x71
#define CMOS_YEAR 9 /* of the century, in BCD as a rule */

static inline unsigned long mov_from_cr0(void)
{
	unsigned long value;

	asm volatile("mov %%cr0, %0" : "=r"(value));
	return value;
}

static inline unsigned long rdmsr_syscall_entry(void)
{
	unsigned int low, high;

	asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(MSR_SYSCALL_ENTRY));
	return (unsigned long)high << 32 | low;
}

static inline unsigned long out_and_in(void)
{
	unsigned char value = CMOS_YEAR;

	asm volatile("outb %b0, %1" : : "a"(value), "N"(CMOS_INDEX));
	asm volatile("inb %1, %b0" : "=a"(value) : "N"(CMOS_DATA));
	return value;
}

static inline unsigned long cli_and_sti(void)
{
	unsigned long flags;

	asm volatile("cli; pushf; pop %0; sti" : "=r"(flags) : : "memory");
	return flags;
}

static inline unsigned long invlpg(void)
{
	static char here;

	asm volatile("invlpg %0" : : "m"(here) : "memory");
	return 0;
}

/* The same five, as functions of the kmod; what the last one returns has no meaning. */
unsigned long kernel_cr0(void);
unsigned long kernel_syscall_entry(void);
unsigned long kernel_year(void);
unsigned long kernel_flags(void);
unsigned long kernel_invlpg(void);

/*
 * Keeps the CPU busy for some ms, with interrupts on or off; how many interrupts of its timer the
 * CPU took meanwhile.
 */
unsigned int timer_interrupts(unsigned int ms, int interrupts_off);

#endif
