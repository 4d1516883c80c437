// SPDX-License-Identifier: GPL-2.0-only
/* A program that knows nothing of kbridge; a library comes to it in LD_PRELOAD. */
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
	char text[64], copy[64];

	(void)argc;
	snprintf(text, sizeof(text), "%.20s", strrchr(argv[0], '/') + 1);
	memcpy(copy, text, sizeof(copy));
	printf("plain %s\n", strcmp(copy, "names_plain") ? "wrong" : "right");
	return 0;
}
