// SPDX-License-Identifier: GPL-2.0-only
/* Says which root the program sees, and which kernel it runs on, as that kernel has it. */
#include <err.h>
#include <stdio.h>
#include <string.h>
#include "where_kmod.h"

/* The name in /etc/os-release, as the root's distribution wrote it. */
static const char *root_name(void)
{
	static char line[256];
	FILE *file = fopen("/etc/os-release", "r");

	while (file && fgets(line, sizeof(line), file)) {
		if (strncmp(line, "PRETTY_NAME=\"", 13))
			continue;
		fclose(file);
		line[strcspn(line, "\n") - 1] = 0;
		return line + 13;
	}
	return "no distribution";
}

int main(void)
{
	char release[65];

	if (kernel_release(release, sizeof(release)))
		errx(1, "the kernel cannot write to the buffer");
	printf("root: %s; kernel: %s\n", root_name(), release);
	return 0;
}
