// SPDX-License-Identifier: GPL-2.0-only
/*
 * Adaptor pti: with page-table isolation the kernel's page tables have the user's half marked as
 * not executable, in their topmost level (Linux, arch/x86/mm/pti.c: __pti_set_user_pgtbl()), so
 * that a way back to ring 3 that forgot to change tables would fault.  Elevated code runs on the
 * kernel's tables.  An entry loses the mark at the first instruction that faults for it; ring 3
 * never runs on these tables, and SMEP still keeps the kernel from the user's pages.
 */
#include <linux/bitops.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <asm/cpufeature.h>
#include <asm/pgtable.h>
#include <asm/trap_pf.h>
#include "entry.h"
#include "elevation.h"

bool needs_pti(void)
{
	return boot_cpu_has(X86_FEATURE_PTI);
}

noinstr bool fix_pti(const struct frame *frame, unsigned long address)
{
	struct mm_struct *mm = current->mm;

	if (!(frame->error & X86_PF_INSTR) || !mm)
		return false;
	return test_and_clear_bit(_PAGE_BIT_NX, (unsigned long *)pgd_offset(mm, address));
}
