/* SPDX-License-Identifier: GPL-2.0-only */
/* For the compiler alone: app and kmod agree on it. */
#ifndef WHERE_KMOD_H
#define WHERE_KMOD_H

/* The kernel's release to `buffer`, of `size` bytes; 0, or a negative errno. */
int kernel_release(char *buffer, unsigned long size);

#endif
