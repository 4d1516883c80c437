// SPDX-License-Identifier: GPL-2.0-only
/*
 * names_load LIBRARY HOW LATER: knows nothing of kbridge; loads a library with a kmod by
 * dlopen(), HOW of the letters n(ow), l(azy), g(lobal), d(eepbind), then one whose references have
 * no versions, and lets both work.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

static void *need(void *found)
{
	if (!found)
		printf("FAIL %s\n", dlerror());
	return found;
}

int main(int argc, char **argv)
{
	int how = strchr(argv[2], 'n') ? RTLD_NOW : RTLD_LAZY;
	int (*check)(void), (*later)(void);
	void *library, *second;

	(void)argc;
	how |= (strchr(argv[2], 'g') ? RTLD_GLOBAL : 0) |
	       (strchr(argv[2], 'd') ? RTLD_DEEPBIND : 0);
	library = need(dlopen(argv[1], how));
	second = need(dlopen(argv[3], RTLD_LAZY));
	if (!library || !second)
		return 1;
	check = (int (*)(void))need(dlsym(library, "names_check"));
	later = (int (*)(void))need(dlsym(second, "later"));
	if (later() != 9)
		puts("FAIL later()");
	return check();
}
