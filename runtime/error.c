// SPDX-License-Identifier: GPL-2.0-only
/* Ends the program with one line of cause and one of what to do. */
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>
#include "internal.h"

#define EXIT_KBRIDGE 125 /* as kbridge run has it */

static struct iovec piece(const char *text)
{
	return (struct iovec){ (void *)text, strlen(text) };
}

void kb_fail(const char *name, const char *what, const char *detail, const char *hint)
{
	struct iovec line[] = {
		piece("kbridge: error: "),  piece(name), piece(": "), piece(what), piece(detail),
		piece("\nkbridge: hint: "), piece(hint), piece("\n"),
	};

	if (writev(STDERR_FILENO, line, sizeof(line) / sizeof(line[0])) < 0)
		_exit(EXIT_KBRIDGE); /* nobody to tell */
	_exit(EXIT_KBRIDGE);
}
