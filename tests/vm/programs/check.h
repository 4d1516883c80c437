/* SPDX-License-Identifier: GPL-2.0-only */
/* One line a check, and a count of those that failed. */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>

static int failures;

static inline void check(const char *what, long got, long wanted)
{
	if (got == wanted) {
		printf("ok   %s\n", what);
	} else {
		printf("FAIL %s: %ld (%#lx), not %ld\n", what, got, got, wanted);
		failures++;
	}
}

#endif
