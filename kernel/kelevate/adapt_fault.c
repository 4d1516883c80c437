// SPDX-License-Identifier: GPL-2.0-only
/*
 * Adaptor fault: a page fault's error code says in which ring it arose, and a fault of ring 0 on a
 * user's page that is not there yet is a bug to the kernel.  Elevated code's faults get the bit
 * that says ring 3, and are served like any program's.
 */
#include <linux/percpu.h>
#include <asm/trap_pf.h>
#include "entry.h"
#include "elevation.h"

DEFINE_PER_CPU(u32, kelevate_error);

void fault_up(bool on)
{
	this_cpu_write(kelevate_error, on ? X86_PF_USER : 0);
}
