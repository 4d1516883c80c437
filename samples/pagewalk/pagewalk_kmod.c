// SPDX-License-Identifier: GPL-2.0-only
/*
 * Walks the caller's page tables with the kernel's own types and macros.
 *
 * Interrupts are off meanwhile, as in the kernel's gup_fast(): no table is freed before every CPU
 * has answered an interrupt or has passed a quiescent state of RCU.
 */
#include <linux/irqflags.h>
#include <linux/mm.h>
#include <linux/pgtable.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <asm/cpufeature.h>
#include <asm/special_insns.h>
#include "pagewalk_kmod.h"

static_assert(TABLE_ENTRIES == PTRS_PER_PTE);

static bool is_isolated(void)
{
	return boot_cpu_has(X86_FEATURE_PTI);
}

/* With page-table isolation the kernel's own copy has no right to execute at the top level. */
static pgd_t *user_root(void)
{
	return is_isolated() ? kernel_to_user_pgdp(current->mm->pgd) : current->mm->pgd;
}

static int top_level(void)
{
	return pgtable_l5_enabled() ? 5 : 4;
}

int page_table_root(struct root *user)
{
	struct root root = {
		.cr3 = __read_cr3(),
		.physical = __pa(user_root()),
		.levels = top_level(),
		.isolated = is_isolated(),
	};

	return copy_to_user((void __user *)user, &root, sizeof(root)) ? -EFAULT : 0;
}

/* The table of `level` on the way to `address`, NULL where the way ends above. */
static const void *table_of(unsigned long address, int level)
{
	pgd_t *pgd = user_root() + pgd_index(address);
	p4d_t *p4d;
	pud_t *pud;
	pmd_t *pmd;

	if (level == top_level())
		return user_root();
	if (!pgd_present(*pgd))
		return NULL;
	if (level == 4)
		return p4d_offset(pgd, 0);
	p4d = p4d_offset(pgd, address); /* with four levels, the entry of the root */
	if (!p4d_present(*p4d) || p4d_leaf(*p4d))
		return NULL;
	if (level == 3)
		return pud_offset(p4d, 0);
	pud = pud_offset(p4d, address);
	if (!pud_present(*pud) || pud_leaf(*pud))
		return NULL;
	if (level == 2)
		return pmd_offset(pud, 0);
	pmd = pmd_offset(pud, address);
	if (!pmd_present(*pmd) || pmd_leaf(*pmd))
		return NULL;
	return pte_offset_kernel(pmd, 0);
}

/* All levels have entries of one form on x86; only where the address ends differs. */
static struct entry decode(pteval_t value, int level)
{
	struct entry entry = {};
	unsigned long pfn;
	bool leaf = true;

	if (!(value & _PAGE_PRESENT))
		return entry;
	if (level == 1) {
		pfn = pte_pfn(__pte(value));
	} else if (level == 2) {
		leaf = pmd_leaf(__pmd(value));
		pfn = pmd_pfn(__pmd(value));
	} else if (level == 3) {
		leaf = pud_leaf(__pud(value));
		pfn = pud_pfn(__pud(value));
	} else {
		leaf = false;
		pfn = (value & PTE_PFN_MASK) >> PAGE_SHIFT;
	}
	entry.physical = PFN_PHYS(pfn);
	entry.flags =
		ENTRY_PRESENT | (leaf ? ENTRY_LEAF : 0) | (value & _PAGE_RW ? ENTRY_WRITE : 0) |
		(value & _PAGE_NX ? 0 : ENTRY_EXECUTE) | (value & _PAGE_USER ? ENTRY_USER : 0) |
		(value & _PAGE_ACCESSED ? ENTRY_ACCESSED : 0) |
		(value & _PAGE_DIRTY ? ENTRY_DIRTY : 0);
	return entry;
}

int page_table(unsigned long address, int level, struct entry *user)
{
	const size_t size = TABLE_ENTRIES * sizeof(struct entry);
	const pteval_t *table;
	struct entry *entries;
	unsigned long flags;
	int k, found = 0;

	if (level < 1 || level > top_level() || address >= TASK_SIZE_MAX)
		return -EINVAL;
	entries = kmalloc(size, GFP_KERNEL);
	if (!entries)
		return -ENOMEM;
	local_irq_save(flags);
	table = table_of(address, level);
	for (k = 0; table && k < TABLE_ENTRIES; k++)
		entries[k] = decode(READ_ONCE(table[k]), level);
	local_irq_restore(flags);
	if (table)
		found = copy_to_user((void __user *)user, entries, size) ? -EFAULT : TABLE_ENTRIES;
	kfree(entries);
	return found;
}
