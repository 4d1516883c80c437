// SPDX-License-Identifier: GPL-2.0-only
/* What security.c has done in the kernel: mostly what it must not be able to do. */
#include <linux/atomic.h>
#include <linux/delay.h>
#include <linux/pid.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/smp.h>
#include <asm/processor-flags.h>
#include <asm/special_insns.h>
#include "security_kmod.h"

static atomic_t without;

int my_pid(void)
{
	return task_tgid_nr(current);
}

int stay(int milliseconds)
{
	msleep(milliseconds);
	return milliseconds;
}

static void look(void *nothing)
{
	unsigned long wanted = X86_CR4_SMEP | X86_CR4_SMAP;

	if ((native_read_cr4() & wanted) != wanted || native_save_fl() & X86_EFLAGS_AC)
		atomic_inc(&without);
}

/* Processors that have no SMEP or no SMAP. */
int lacking(void)
{
	atomic_set(&without, 0);
	on_each_cpu(look, NULL, 1);
	return atomic_read(&without);
}

/* Not how kernel code reads an app's memory: SMAP is there to stop this. */
long touch(const long *user)
{
	return *(const volatile long *)user;
}

/* And SMEP this. */
long enter(long (*function)(void))
{
	return function();
}
