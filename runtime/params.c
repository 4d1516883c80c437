// SPDX-License-Identifier: GPL-2.0-only
/*
 * Module parameters from the environment: KBRIDGE_PARAMS="debug=1 myapp.size=4".  A word with a
 * name in front is for the image of that name alone, as on the kernel's command line.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include "internal.h"

#define VARIABLE "KBRIDGE_PARAMS"

/* As the kernel reads words: double quotes keep spaces. */
static size_t word_length(const char *text)
{
	size_t n = 0;
	int quoted = 0;

	for (; text[n] && (quoted || !strchr(" \t\n", text[n])); n++)
		quoted ^= text[n] == '"';
	return n;
}

/* '-' and '_' are one, as in names of modules. */
static int same_name(const char *a, const char *b, size_t length)
{
	for (size_t k = 0; k < length; k++)
		if ((a[k] == '-' ? '_' : a[k]) != (b[k] == '-' ? '_' : b[k]))
			return 0;
	return !b[length];
}

/* What of a word is for the image: all, what follows its name, or NULL. */
static const char *mine(const char *word, size_t length, const char *image)
{
	size_t name = strcspn(word, ".=\" \t\n");

	if (name >= length || word[name] != '.')
		return word;
	return same_name(word, image, name) ? word + name + 1 : NULL;
}

void kb_params(const char *image, char *args, size_t room)
{
	const char *text = secure_getenv(VARIABLE);
	size_t used = 0;

	for (text = text ?: ""; *text; text++) {
		size_t length = word_length(text);
		const char *from = mine(text, length, image), *end = text + length;

		if (length && from) {
			if (used + (end - from) + 2 > room)
				kb_fail(image, "parameters of more than 4095 bytes in ", VARIABLE,
					"give fewer or shorter ones");
			memcpy(args + used, from, end - from);
			used += end - from;
			args[used++] = ' ';
		}
		text = end;
		if (!*text)
			break;
	}
	args[used] = 0;
}
