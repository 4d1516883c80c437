// SPDX-License-Identifier: GPL-2.0-only
/*
 * Kernel names that a definition without a version has taken from libkernel.so.
 *
 * ld.so accepts one for a reference that asks for a version (check_match() in glibc's
 * elf/dl-lookup.c): a memcpy() of the program's own, or of a library in LD_PRELOAD, comes before
 * the kernel's.
 */
#include <stdint.h>
#include <string.h>
#include "internal.h"

#define LONGEST_NAME 512 /* KSYM_NAME_LEN */

/* `symbol`: NAME or NAME [MODULE]; 0 where libkernel.so has no such name. */
static unsigned long from_libkernel(const char *symbol)
{
	size_t length = strcspn(symbol, " ");
	char name[LONGEST_NAME];

	if (length >= sizeof(name))
		return 0;
	memcpy(name, symbol, length);
	name[length] = 0;
	return kb_kernel_symbol(name);
}

void kb_bind(struct kb_image *program)
{
	__u64 *words = (__u64 *)(uintptr_t)program->image.imports;
	const char *symbol = (const char *)(uintptr_t)program->image.import_names;
	__u32 k;

	if (program->image.flags & KELEVATE_LINKED)
		return; /* a linker script's words are not ld.so's */
	if (!(program->image.text_base >> 63))
		program->image.text_base = kb_kernel_symbol("_text");
	for (k = 0; k < program->image.nimports; k++, symbol += strlen(symbol) + 1)
		if (words[k] && !(words[k] >> 63)) /* or a per-CPU offset, which stays as it is */
			words[k] = from_libkernel(symbol + (symbol[0] == '?'));
}
