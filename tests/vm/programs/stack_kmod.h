/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef STACK_KMOD_H
#define STACK_KMOD_H

long left(void);	       /* bytes of the stack below a gate's function */
long deep(int n);	       /* fills its frames */
long used_by_deep(int n);      /* bytes that it touched */
long used_by_kernel(int what); /* bytes that one of the kernel's functions touched */

#endif
