// SPDX-License-Identifier: GPL-2.0-only
// How many processors the kernel uses, and what it says of their load.

#include <stdio.h>

#include "load.h"

int main(void)
{
	struct load now = load_now();

	printf("%u processors, load %lu.%02lu\n", now.processors, now.hundredths / 100,
	       now.hundredths % 100);
	return now.processors == 0;
}
