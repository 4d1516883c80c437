// SPDX-License-Identifier: GPL-2.0-only
/* A look at the whole system: three files of an app, two of a kmod, and a Makefile. */
#include "snapshot.h"

int main(void)
{
	show_tasks();
	show_memory();
	return 0;
}
