// SPDX-License-Identifier: GPL-2.0-only

#include <linux/kernel_stat.h>

#include "switches.h"

unsigned long long uptime_switches(void)
{
	return nr_context_switches(); /* not exported */
}
