// SPDX-License-Identifier: GPL-2.0-only
/* Counts its calls and its initialisations; registers a driver, which links to its module. */
#include <linux/module.h>
#include <linux/platform_device.h>
#include "closing_kmod.h"

static long count;
static int initialised;

static struct platform_driver driver = {
	.driver.name = "kbridge-closing",
};

long first(long x)
{
	count++;
	return 1000 + x;
}

long calls(void)
{
	return count;
}

int odd(struct odd value)
{
	return 1000 * value.c + value.i;
}

int driver_is_linked(void)
{
	return THIS_MODULE->mkobj.drivers_dir != NULL;
}

/* not static: two gates lie at one address */
int counted_init(void)
{
	initialised++;
	return platform_driver_register(&driver);
}

int inits(void)
{
	return initialised;
}

static void __exit closing_exit(void)
{
	platform_driver_unregister(&driver);
}

module_init(counted_init);
module_exit(closing_exit);
MODULE_LICENSE("GPL");
