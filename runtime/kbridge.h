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

#ifdef __cplusplus
}
#endif

#endif
