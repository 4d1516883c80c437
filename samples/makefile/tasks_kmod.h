/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef TASKS_KMOD_H
#define TASKS_KMOD_H

int count_processes(void);
int count_threads(void);
unsigned long count_forks(void); /* since boot */

#endif
