// SPDX-License-Identifier: GPL-2.0-only
/* Control registers and model-specific registers, read as the kernel itself reads them. */
#include <linux/kernel.h>
#include <linux/preempt.h>
#include <linux/smp.h>
#include <linux/uaccess.h>
#include <asm/msr.h>
#include <asm/special_insns.h>
#include "registers_kmod.h"

static unsigned long msr(unsigned int number)
{
	u64 value;

	rdmsrl(number, value);
	return value;
}

/* The kernel has no function for it: it sets the same priority through the interrupt controller. */
static unsigned long read_cr8(void)
{
	unsigned long value;

	asm volatile("mov %%cr8, %0" : "=r"(value));
	return value;
}

int read_registers(struct registers *user)
{
	struct registers r = {};

	r.cpu = get_cpu(); /* stay on this CPU */
	r.cr0 = read_cr0();
	r.cr2 = read_cr2();
	r.cr3 = __read_cr3();
	r.cr4 = __read_cr4();
	r.cr8 = read_cr8();
	r.efer = msr(MSR_EFER);
	r.star = msr(MSR_STAR);
	r.lstar = msr(MSR_LSTAR);
	r.cstar = msr(MSR_CSTAR);
	r.sfmask = msr(MSR_SYSCALL_MASK);
	r.fs_base = msr(MSR_FS_BASE);
	r.gs_base = msr(MSR_GS_BASE);
	r.kernel_gs_base = msr(MSR_KERNEL_GS_BASE);
	r.apic_base = msr(MSR_IA32_APICBASE);
	r.pat = msr(MSR_IA32_CR_PAT);
	put_cpu();
	snprintf(r.lstar_name, sizeof(r.lstar_name), "%ps", (void *)r.lstar);
	snprintf(r.cstar_name, sizeof(r.cstar_name), "%ps", (void *)r.cstar);
	return copy_to_user((void __user *)user, &r, sizeof(r)) ? -EFAULT : 0;
}
