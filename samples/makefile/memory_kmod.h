/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef MEMORY_KMOD_H
#define MEMORY_KMOD_H

unsigned long total_bytes(void);
unsigned long free_bytes(void);

#endif
