/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef NAMES_KMOD_H
#define NAMES_KMOD_H

#ifdef __cplusplus
extern "C" {
#endif

#define MANY_NAMES 128

/* What the kmod sees as the addresses of names.def, in its order; the number of them. */
int kernel_addresses(unsigned long *user, int from_code);

/* How many of the kernel's functions of these names did what they should; negative: that one. */
int kernel_calls(void);

/* "%ps" of a kernel address, by the kmod's snprintf(); the length. */
int kernel_text(char *user, unsigned long size);

#ifdef __cplusplus
}
#endif

#endif
