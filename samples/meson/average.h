/* SPDX-License-Identifier: GPL-2.0-only */
/* Between the two kmod sources. */
unsigned long load_average(void);
