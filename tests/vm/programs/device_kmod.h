/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef DEVICE_KMOD_H
#define DEVICE_KMOD_H

int device_minor(void);

#endif
