/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef WHERE_KMOD_H
#define WHERE_KMOD_H

long text(void);
int right(void);

#endif
