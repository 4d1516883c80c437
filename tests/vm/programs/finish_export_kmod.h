/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef FINISH_EXPORT_KMOD_H
#define FINISH_EXPORT_KMOD_H

int exported_twice(int x);

#endif
