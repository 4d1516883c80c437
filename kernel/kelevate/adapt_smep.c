// SPDX-License-Identifier: GPL-2.0-only
/*
 * Adaptor smep: supervisor mode execution prevention forbids ring 0 to execute the user's pages.
 * CR4.SMEP is off on a CPU from when a thread goes up there until it leaves the CPU, on for
 * everybody else.
 *
 * The kernel's own copy of CR4 keeps the bit, so whatever the kernel writes from it (to flush the
 * TLB, for instance) sets it again: then the next instruction faults, and is tried again.
 */
#include <linux/percpu.h>
#include <asm/cpufeature.h>
#include <asm/processor-flags.h>
#include <asm/special_insns.h>
#include <asm/trap_pf.h>
#include "entry.h"
#include "elevation.h"

static DEFINE_PER_CPU(bool, is_off);

static __always_inline void write_cr4(unsigned long cr4)
{
	/* native_write_cr4() would put the bit back: it is one that the kernel pins */
	asm volatile("mov %0, %%cr4" : : "r"(cr4) : "memory");
}

bool needs_smep(void)
{
	return boot_cpu_has(X86_FEATURE_SMEP);
}

void smep_up(void)
{
	if (this_cpu_read(is_off))
		return;
	write_cr4(native_read_cr4() & ~X86_CR4_SMEP);
	this_cpu_write(is_off, true);
}

void smep_out(void)
{
	if (!this_cpu_read(is_off))
		return;
	write_cr4(native_read_cr4() | X86_CR4_SMEP);
	this_cpu_write(is_off, false);
}

noinstr bool fix_smep(const struct frame *frame)
{
	unsigned long cr4 = native_read_cr4();

	if (!(frame->error & X86_PF_INSTR) || !(cr4 & X86_CR4_SMEP))
		return false;
	write_cr4(cr4 & ~X86_CR4_SMEP);
	this_cpu_write(is_off, true);
	return true;
}
