/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef LOAD_KMOD_H
#define LOAD_KMOD_H

#define MAGIC 0x5a5a0000

/* how many threads are or were in slept_until() and busy_until() */
struct stays {
	int begun, ended;
};

long tally(long x);
long tallied(void);
long count(void);
long append(long value);
long take(void);
long list_length(void);
long slept_until(int milliseconds);
long busy_until(int milliseconds);
struct stays stays(void);
int was_pending(void);
long was_preempted(void);
long hold(int milliseconds);
long await(void);
long wake(void);
long read_fd(int fd, void *user, unsigned long size);
long through_file(int number, long value);
long signal_self(int number, long x);
long call_other(long function, long x);
int has_kaslr(void);

#endif
