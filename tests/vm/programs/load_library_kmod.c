// SPDX-License-Identifier: GPL-2.0-only
/* A second image in the process of load.c, with a count of its own. */
#include <linux/module.h>

long other(long x);
long others(void);
long address(void);

static atomic_long_t calls = ATOMIC_LONG_INIT(0);

static noinline long called_by_the_other(long x)
{
	atomic_long_inc(&calls);
	return 5 * x + 2;
}

long other(long x)
{
	return called_by_the_other(x);
}

long others(void)
{
	return atomic_long_read(&calls);
}

/* To call from another image. */
long address(void)
{
	return (long)called_by_the_other;
}

MODULE_LICENSE("GPL");
