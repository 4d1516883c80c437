/* SPDX-License-Identifier: GPL-2.0-only */
/* Faults by name.  Each takes a page of the app, which it may read, write and execute. */
#ifndef FAULTS_KMOD_H
#define FAULTS_KMOD_H

#define FAULTS(X)                \
	X(null_read)             \
	X(null_write)            \
	X(null_call)             \
	X(divide)                \
	X(invalid_opcode)        \
	X(bug)                   \
	X(breakpoint)            \
	X(noncanonical_read)     \
	X(noncanonical_call)     \
	X(double_free)           \
	X(use_after_vfree)       \
	X(user_read)             \
	X(user_call)             \
	X(write_own_text)        \
	X(write_own_constant)    \
	X(write_kernel_constant) \
	X(smashed_stack)         \
	X(nested)                \
	X(mutex_held)            \
	X(spinlock_held)         \
	X(warn)                  \
	X(sleep_in_atomic)       \
	X(deep_recursion)        \
	X(interrupts_off)        \
	X(write_kernel_text)

#define DECLARE_FAULT(name) int name(void *page);

FAULTS(DECLARE_FAULT)

int locks_held(void);
int task(void);

#endif
