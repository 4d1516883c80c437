/* SPDX-License-Identifier: GPL-2.0-only */
int own_pid(void);
int processes(void);
