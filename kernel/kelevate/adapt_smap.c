// SPDX-License-Identifier: GPL-2.0-only
/*
 * Adaptor smap: supervisor mode access prevention forbids ring 0 to touch the user's pages while
 * the flag AC is clear.  Elevated code runs with AC set: the kernel sets it with every return
 * there.  What clears it meanwhile (popf, or a kernel function that was called and ends with
 * clac) is found by the fault that comes of it.
 */
#include <asm/cpufeature.h>
#include <asm/processor-flags.h>
#include <asm/trap_pf.h>
#include "entry.h"
#include "elevation.h"

DEFINE_PER_CPU(u32, kelevate_exit_flags);

bool needs_smap(void)
{
	return boot_cpu_has(X86_FEATURE_SMAP);
}

void smap_up(bool on)
{
	this_cpu_write(kelevate_exit_flags, on ? X86_EFLAGS_AC : 0);
}

noinstr bool fix_smap(struct frame *frame)
{
	if (frame->error & X86_PF_INSTR || frame->flags & X86_EFLAGS_AC)
		return false;
	frame->flags |= X86_EFLAGS_AC;
	return true;
}
