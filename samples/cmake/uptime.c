// SPDX-License-Identifier: GPL-2.0-only
// How long the kernel runs, and how often it went from one thread to another, by its own counts.

#include <stdio.h>

#include "uptime.h"

int main(void)
{
	struct uptime now = uptime_now();

	printf("up for %llu s, %llu context switches\n", now.seconds, now.switches);
	return now.switches == 0;
}
