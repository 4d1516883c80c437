// SPDX-License-Identifier: GPL-2.0-only
/*
 * Adaptor ibt: where the kernel has indirect branch tracking on, every indirect branch of ring 0
 * has to lead to an endbr64, which user code need not have (its switch tables have none).  It is
 * off while elevated code is on the CPU.
 */
#include <linux/percpu.h>
#include <asm/cpufeature.h>
#include <asm/msr.h>
#include "entry.h"
#include "elevation.h"

#ifdef X86_FEATURE_IBT
static DEFINE_PER_CPU(u64, before);

bool needs_ibt(void)
{
	u64 msr;

	if (!IS_ENABLED(CONFIG_X86_KERNEL_IBT) || !boot_cpu_has(X86_FEATURE_IBT))
		return false;
	rdmsrl(MSR_IA32_S_CET, msr);
	return msr & CET_ENDBR_EN;
}

void ibt_up(void)
{
	u64 msr;

	rdmsrl(MSR_IA32_S_CET, msr);
	if (!(msr & CET_ENDBR_EN))
		return;
	this_cpu_write(before, msr);
	wrmsrl(MSR_IA32_S_CET, msr & ~CET_ENDBR_EN);
}

void ibt_down(void)
{
	wrmsrl(MSR_IA32_S_CET, this_cpu_read(before));
}
#else
bool needs_ibt(void)
{
	return false;
}

void ibt_up(void)
{
}

void ibt_down(void)
{
}
#endif
