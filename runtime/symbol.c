// SPDX-License-Identifier: GPL-2.0-only
/* Looks kernel symbols up by name, in the libkernel.so of this boot. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include "internal.h"
#include "kbridge.h"

unsigned long kb_symbol(const char *name)
{
	void *library = dlopen("libkernel.so", RTLD_LAZY);

	return library ? (uintptr_t)dlvsym(library, name, "LINUX_KERNEL") : 0;
}
