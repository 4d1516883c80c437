// SPDX-License-Identifier: GPL-2.0-only
/* Looks kernel symbols up by name: in the libkernel.so of this boot, and among loaded modules. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "internal.h"
#include "kbridge.h"

#define KALLSYMS "/proc/kallsyms"

unsigned long kb_kernel_symbol(const char *name)
{
	void *library = dlopen("libkernel.so", RTLD_LAZY);

	return library ? (uintptr_t)dlvsym(library, name, "LINUX_KERNEL") : 0;
}

/* Whether "ADDRESS LETTER NAME\n" or "ADDRESS LETTER NAME\t[MODULE]\n" is of that name. */
static int is_of(const char *line, const char *name, size_t length)
{
	const char *letter = strchr(line, ' ');

	return letter && letter[1] && letter[2] == ' ' && !strncmp(letter + 3, name, length) &&
	       (letter[3 + length] == '\t' || letter[3 + length] == '\n');
}

/* "[bpf]" and "[__builtin__ftrace]" are no modules: what is there comes and goes unseen. */
static int is_of_module(const char *line)
{
	const char *tab = strchr(line, '\t');

	return tab && strncmp(tab, "\t[bpf]", 6) && strncmp(tab, "\t[__builtin__", 13);
}

/*
 * Modules move with every load, so they are not in libkernel.so: the kernel is asked each time.
 * Source of the form: s_show() in the kernel's kernel/kallsyms.c.
 */
static unsigned long of_module(const char *name)
{
	FILE *file = fopen(KALLSYMS, "re");
	unsigned long found = 0;
	size_t room = 0, length = strlen(name);
	char *line = NULL;

	while (file && getline(&line, &room, file) > 0) {
		if (!is_of(line, name, length))
			continue;
		if (found || !is_of_module(line)) {
			found = 0; /* it has more than one, or several of the kernel's own */
			break;
		}
		found = strtoul(line, NULL, 16);
	}
	free(line);
	if (file)
		fclose(file);
	return found;
}

unsigned long kb_symbol(const char *name)
{
	unsigned long address = kb_kernel_symbol(name);
	int kept = errno;

	if (!address && *name)
		address = of_module(name);
	errno = kept;
	return address;
}
