/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef TASKS_KMOD_H
#define TASKS_KMOD_H

struct task {
	int pid, parent;
	unsigned int uid;
	int threads;
	unsigned long resident; /* bytes; 0 for kernel threads */
	char state;		/* as ps has it: R, S, D ... */
	char name[16];
};

/*
 * Fills `user` with up to `room` processes of the system.  How many there are, which may be more;
 * -EINVAL, -ENOMEM or -EFAULT.
 */
int read_tasks(struct task *user, int room);

#endif
