// SPDX-License-Identifier: GPL-2.0-only

#include <linux/ktime.h>

#include "switches.h"
#include "uptime.h"

struct uptime uptime_now(void)
{
	return (struct uptime){ ktime_get_boottime_seconds(), uptime_switches() };
}
