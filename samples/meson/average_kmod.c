// SPDX-License-Identifier: GPL-2.0-only

#include <linux/sched/loadavg.h>

#include "average.h"

unsigned long load_average(void)
{
	return avenrun[0] * 100 / FIXED_1;
}
