// SPDX-License-Identifier: GPL-2.0-only
/* Linked with no library, so that its references have no version. */
#include <stdio.h>
#include <string.h>

int later(void);

int later(void)
{
	char text[32], copy[32];

	snprintf(text, sizeof(text), "%s %d", "later", 123);
	memcpy(copy, text, sizeof(copy));
	return strcmp(copy, "later 123") ? -1 : (int)strlen(copy);
}
