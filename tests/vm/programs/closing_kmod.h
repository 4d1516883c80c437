/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef CLOSING_KMOD_H
#define CLOSING_KMOD_H

struct odd {
	char c;
	int i;
} __attribute__((packed));

long first(long x);
long calls(void);
int odd(struct odd value);
int driver_is_linked(void);
int init_module(void);
int counted_init(void);
int inits(void);

#endif
