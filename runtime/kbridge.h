/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * libkbridge: what programs that kbridge links may call.
 *
 * Calling a kmod function needs nothing of this: it is an ordinary C call.
 */
#ifndef KBRIDGE_H
#define KBRIDGE_H

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The address of a symbol of the running kernel, 0 when there is none of that name or more than
 * one.  A per-CPU variable's address is its offset in the per-CPU area.
 *
 * A name that the kernel itself does not have is looked for in the modules that are loaded now: all
 * of /proc/kallsyms is read for it (some 10 ms), and the address is right until that module goes.
 */
unsigned long kb_symbol(const char *name);

/*
 * A bracket: between the two, this thread's own code runs in ring 0, with all that it does: signal
 * handlers, system calls, page faults, being scheduled.  Brackets nest.  kb_elevate() returns 0, or
 * -1 with errno: EPERM (it takes CAP_SYS_MODULE, no lockdown, kernel.modules_disabled=0), ENOENT
 * (kelevate is not loaded), EOPNOTSUPP (not on this machine, or not in this program: the kernel log
 * says why), ENOMEM.  kb_lower() returns 0, or -1 with EINVAL: there is no bracket.
 *
 * A bracket is one thread's.  New threads, forked children and what exec starts run in ring 3.
 * Kernel functions are called by a kmod's function or by kb_call(), never through a pointer: they
 * need the kernel's stack.
 */
int kb_elevate(void);
int kb_lower(void);

/* Whether the calling thread is in ring 0: 1 or 0. */
int kb_is_elevated(void);

/*
 * Call a kernel function (its address: kb_symbol()) with up to six words, on this thread's kernel
 * stack, in a bracket or not; the result is all of rax.  As with syscall(2), an argument that the
 * function takes as a long has to be one.  Where it cannot be called, the program ends with status
 * 125 and one line on stderr.
 */
long kb_call(unsigned long function, ...);

#ifdef __cplusplus
}
#endif

#endif
