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
#include <asm/processor-flags.h>
#include <asm/special_insns.h>
#include <asm/trap_pf.h>
#include "entry.h"
#include "elevation.h"

bool needs_pti(void)
{
	return boot_cpu_has(X86_FEATURE_PTI);
}

/*
 * Whether no level of the tables forbids it.  Interrupts are off, so the tables stay: who frees
 * them waits for this processor.
 */
static __always_inline bool is_executable(pgd_t *pgd, unsigned long address)
{
	p4d_t *p4d = p4d_offset(pgd, address);
	pud_t *pud;
	pmd_t *pmd;
	pte_t *pte;

	if (!(pgd_flags(*pgd) & _PAGE_PRESENT) || pgd_flags(*pgd) & _PAGE_NX)
		return false;
	if (!p4d_present(*p4d) || p4d_flags(*p4d) & _PAGE_NX)
		return false;
	pud = pud_offset(p4d, address);
	if (!pud_present(*pud) || pud_flags(*pud) & _PAGE_NX || pud_flags(*pud) & _PAGE_PSE)
		return false;
	pmd = pmd_offset(pud, address);
	if (!pmd_present(*pmd) || pmd_flags(*pmd) & _PAGE_NX)
		return false;
	if (pmd_flags(*pmd) & _PAGE_PSE)
		return true;
	pte = (pte_t *)pmd_page_vaddr(*pmd) + pte_index(address);
	return pte_present(*pte) && !(pte_flags(*pte) & _PAGE_NX);
}

noinstr bool fix_pti(const struct frame *frame, unsigned long address)
{
	struct mm_struct *mm = current->mm;
	pgd_t *pgd;

	if (!(frame->error & X86_PF_INSTR) || !mm)
		return false;
	pgd = pgd_offset(mm, address);
	if (test_and_clear_bit(_PAGE_BIT_NX, (unsigned long *)pgd))
		return true;
	/*
	 * Another thread of the process was quicker, and this one's fault is of before that; unless
	 * it is SMEP's.
	 */
	return !(native_read_cr4() & X86_CR4_SMEP) && is_executable(pgd, address);
}
