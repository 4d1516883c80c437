// SPDX-License-Identifier: GPL-2.0-only
/* Writes to its own standard output, once through libc and once through the kernel's function. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "ksys_write_kmod.h"

int main(void)
{
	const char text[] = "World!\n";
	ssize_t written;

	printf("Hello ");
	fflush(stdout);
	written = kernel_side_write(STDOUT_FILENO, text, strlen(text));
	if (written < 0)
		fprintf(stderr, "ksys_write: %s\n", strerror((int)-written));
	return written == (ssize_t)strlen(text) ? 0 : 1;
}
