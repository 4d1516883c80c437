/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef FORGOTTEN_KMOD_H
#define FORGOTTEN_KMOD_H

int start(void);
long called(void);

#endif
