/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef USED_KMOD_H
#define USED_KMOD_H

int used_gate(void);

#endif
