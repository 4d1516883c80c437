// SPDX-License-Identifier: GPL-2.0-only
/* Prints where this boot has put the kernel, and checks that the kmod's names went there. */
#include <stdio.h>
#include "kbridge.h"
#include "where_kmod.h"

int main(void)
{
	printf("_text %lx\n", text());
	if (kb_symbol("_text") == (unsigned long)text())
		puts("ok   kb_symbol");
	return !right();
}
