/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef APPLICATION_KMOD_H
#define APPLICATION_KMOD_H

/* The calling thread, as the kernel sees it. */
struct thread {
	int pid;		     /* of this thread: gettid() */
	int group;		     /* of its process: getpid() */
	unsigned long long run_time; /* ns on a CPU */
	char name[16];
};

/* Fills `user`, wherever in the app's memory that is; 0, or -EFAULT. */
int who_am_i(struct thread *user);

#endif
