// SPDX-License-Identifier: GPL-2.0-only
/*
 * Counts where the timer interrupts found the threads of an elevated program: in user code in
 * ring 0, in user code in ring 3, or in the kernel.
 */
#include <linux/tracepoint.h>
#include <asm/irq_regs.h>
#include <asm/ptrace.h>
#include "elevation.h"
#include "entry.h"
#include "internal.h"

static void on_tick(void *unused, int vector)
{
	struct thread *t = this_cpu_read(kelevate_thread);
	enum kelevate_tick where;

	if (!t || t->task != current || !(t->elevation->flags & KELEVATE_PROGRAM))
		return;
	if (!user_mode(get_irq_regs()))
		where = KELEVATE_TICK_KERNEL;
	else
		where = t->up ? KELEVATE_TICK_RING0 : KELEVATE_TICK_RING3;
	atomic64_inc(&t->elevation->ticks[where]);
}

int ticks_attach(void)
{
	return tracepoint_probe_register(kernel.local_timer_entry, on_tick, NULL);
}

void ticks_detach(void)
{
	tracepoint_probe_unregister(kernel.local_timer_entry, on_tick, NULL);
	tracepoint_synchronize_unregister();
}
