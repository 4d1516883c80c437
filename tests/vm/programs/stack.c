// SPDX-License-Identifier: GPL-2.0-only
/* Prints what gates find of the kernel stack, and what functions take of it. */
#include <stdio.h>
#include "stack_kmod.h"

enum {
	GATES = 2000, /* the kernel begins elsewhere each time: CONFIG_RANDOMIZE_KSTACK_OFFSET */
	KERNEL_FUNCTIONS = 4
};

int main(void)
{
	long least = 1 << 20, used = 0, kernel = 0;

	for (int i = 0; i < GATES; i++) {
		long now = left();
		least = now < least ? now : least;
	}
	for (int i = 0; i < 100; i++)
		deep(i);
	used = used_by_deep(1);
	for (int what = 0; what < KERNEL_FUNCTIONS; what++) {
		long now = used_by_kernel(what);
		kernel = now > kernel ? now : kernel;
		if (now < 0)
			puts("FAIL: used_by_kernel");
	}
	printf("left %ld\nused %ld\nkernel %ld\n", least, used, kernel);
	return 0;
}
