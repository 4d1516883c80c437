/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef FAULTS_LATER_KMOD_H
#define FAULTS_LATER_KMOD_H

/* Each starts what faults soon afterwards, and returns 0. */
int timer(void);
int work(void);
int thread_of_kernel(void);
int interrupt(void);
int nothing(void);

int stuck_queues(void);

#endif
