/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Included ahead of everything else in a kmod source that is compiled with -fPIC.
 *
 * A resident image lies within 2 GiB of the kernel and of every module, so each name that it uses
 * is as near as its own.  Hidden visibility tells gcc so: no GOT for kernel data, per-CPU
 * variables stay one %gs access, and inline assembly that takes a symbol as an immediate ("i", as
 * static branches and alternatives do) compiles under -fPIC as it does in the kernel.
 */
#pragma GCC visibility push(hidden)
