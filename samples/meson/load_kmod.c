// SPDX-License-Identifier: GPL-2.0-only

#include <linux/cpumask.h>

#include "average.h"
#include "load.h"

struct load load_now(void)
{
	return (struct load){ num_online_cpus(), load_average() };
}
