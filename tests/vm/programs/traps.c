// SPDX-License-Identifier: GPL-2.0-only
/* Executes as many breakpoint instructions as its word says. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static volatile sig_atomic_t trapped;

static void on_trap(int number)
{
	(void)number;
	trapped++;
}

int main(int argc, char **argv)
{
	int count = argc > 1 ? atoi(argv[1]) : 1;

	signal(SIGTRAP, on_trap);
	for (int k = 0; k < count; k++)
		asm volatile("int3");
	printf("%d trapped\n", (int)trapped);
	return trapped == count ? 0 : 1;
}
