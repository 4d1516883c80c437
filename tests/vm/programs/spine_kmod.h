/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SPINE_KMOD_H
#define SPINE_KMOD_H

struct pair {
	long a, b;
};

struct triple {
	long a, b, c;
};

struct many {
	long w[60];
};

struct most {
	long w[256];
};

int started(void);
long sum_many(long a, struct many m);
long sum_most(struct most m);
long sum6(long a, long b, long c, long d, long e, long f);
long sum12(long a, long b, long c, long d, long e, long f, long g, long h, long i, long j, long k,
	   long l);
long sum_structs(struct pair p, struct triple t, long a, long b, long c, long d, struct pair q);
struct pair swapped(struct pair p);
__int128 square(__int128 x);
int minus_one(void);
long restart_code(void);
unsigned char small(unsigned char c, signed char d, short s);
int pid(void);
long count(void);
long list_sum(long value);
int call_through_table(int index, int x);
int greeting(char *user, unsigned long size);
long data_address(void);
long timer_ticks(int milliseconds);
long works_done(void);
int keys(int flip);
int kernel_key(void);
int warn(int once);
long percpu_hits(void);
int increment(int *user);
int unsafe_increment(int *user);
int has_smap(void);
int symbol_text(char *user, unsigned long size);
long sleep_ms(int milliseconds);
int module_named(char *user, unsigned long size);
int oops(void);

#endif
