// SPDX-License-Identifier: GPL-2.0-only
/* Prints what the kernel calls the address that its kmod took from a module. */
#include <stdio.h>

int name_of_it(char *user, unsigned long size);

int main(void)
{
	char text[256] = "";

	if (name_of_it(text, sizeof(text)) < 0)
		return 1;
	puts(text);
	return 0;
}
