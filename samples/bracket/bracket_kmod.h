/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BRACKET_KMOD_H
#define BRACKET_KMOD_H

/* The physical address of the topmost page table of the calling process. */
unsigned long page_table(void);

#endif
