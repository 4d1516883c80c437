/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef FLOW_KMOD_H
#define FLOW_KMOD_H

/* The kernel's clock, in its own ticks since boot. */
unsigned long long ticks(void);

/* The position in an open file, bytes; -EBADF. */
long long position(int fd);

/* How often the two above ran. */
unsigned long calls(void);

#endif
