// SPDX-License-Identifier: GPL-2.0-only
/* Exports a function, as one module does for another. */
#include <linux/export.h>
#include "finish_export_kmod.h"

int exported_twice(int x)
{
	return 2 * x;
}
EXPORT_SYMBOL_GPL(exported_twice);
