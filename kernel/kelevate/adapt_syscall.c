// SPDX-License-Identifier: GPL-2.0-only
/*
 * Adaptor syscall: the kernel's entry for the syscall instruction takes it that the GS base is the
 * user's.  From ring 0 it is the kernel's, so while an elevated thread is on the CPU the
 * instruction leads to an entry that swaps it first (kelevate_syscall, entry.S).
 */
#include <asm/msr.h>
#include "entry.h"
#include "elevation.h"

unsigned long kelevate_entry_syscall; /* the kernel's, the same on every CPU */

void syscall_start(void)
{
	rdmsrl(MSR_LSTAR, kelevate_entry_syscall);
}

void syscall_up(void)
{
	wrmsrl(MSR_LSTAR, (unsigned long)kelevate_syscall);
}

void syscall_down(void)
{
	wrmsrl(MSR_LSTAR, kelevate_entry_syscall);
}
