// SPDX-License-Identifier: GPL-2.0-only
/* Privileged instructions in ring 0, and what only they can do: a stretch without interrupts. */
#include <linux/hardirq.h>
#include <linux/irqflags.h>
#include <linux/mc146818rtc.h>
#include <linux/preempt.h>
#include <linux/timekeeping.h>
#include "instructions_kmod.h"

unsigned long kernel_cr0(void)
{
	return mov_from_cr0();
}

unsigned long kernel_syscall_entry(void)
{
	return rdmsr_syscall_entry();
}

unsigned long kernel_year(void)
{
	unsigned long flags, year;

	/* two instructions that belong together: the kernel uses these ports as well */
	spin_lock_irqsave(&rtc_lock, flags);
	year = out_and_in();
	spin_unlock_irqrestore(&rtc_lock, flags);
	return year;
}

unsigned long kernel_flags(void)
{
	return cli_and_sti();
}

unsigned long kernel_invlpg(void)
{
	return invlpg();
}

unsigned int timer_interrupts(unsigned int ms, int interrupts_off)
{
	unsigned int before, after;
	u64 start;

	preempt_disable(); /* the counter is that of one CPU */
	if (interrupts_off)
		local_irq_disable();
	before = this_cpu_read(irq_stat.apic_timer_irqs);
	start = ktime_get_mono_fast_ns();
	while (ktime_get_mono_fast_ns() - start < ms * NSEC_PER_MSEC)
		cpu_relax();
	after = this_cpu_read(irq_stat.apic_timer_irqs);
	if (interrupts_off)
		local_irq_enable();
	preempt_enable();
	return after - before;
}
