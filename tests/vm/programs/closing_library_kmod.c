// SPDX-License-Identifier: GPL-2.0-only
/* The kmod of a library beside the program's own: same gate numbers, other functions. */
#include <linux/module.h>

long second(long x);

static long unloads;

long second(long x)
{
	return 2000 + x + unloads;
}

static int __init library_init(void)
{
	return 0;
}

static void __exit library_exit(void)
{
	unloads++;
}

module_init(library_init);
module_exit(library_exit);
MODULE_LICENSE("GPL");
