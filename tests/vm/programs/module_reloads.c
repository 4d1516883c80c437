// SPDX-License-Identifier: GPL-2.0-only
/*
 * module_reloads LIBRARY MODULE OTHER: the library's kmod uses a function of MODULE.  Between two
 * loads of the library the module goes away and comes back elsewhere; OTHER takes its place.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "check.h"

static void insert(const char *path)
{
	int file = open(path, O_RDONLY | O_CLOEXEC);

	check(path, syscall(SYS_finit_module, file, "", 0), 0);
	close(file);
}

static long removed(void)
{
	return syscall(SYS_delete_module, "fat", O_NONBLOCK);
}

/* The address that the library's kmod sees. */
static long use(const char *path)
{
	void *library = dlopen(path, RTLD_NOW);
	long (*address_of_it)(int), address;
	int (*date_of)(long);

	if (!library) {
		puts(dlerror());
		exit(1);
	}
	address_of_it = (long (*)(int))dlsym(library, "address_of_it");
	date_of = (int (*)(long))dlsym(library, "date_of");
	address = address_of_it(0);
	check("code and data", address_of_it(1), address);
	check("called", date_of(946684800 /* 1 January 2000 */), (2000 - 1980) << 9 | 1 << 5 | 1);
	check("held", removed() == -1 && errno == EWOULDBLOCK, 1);
	dlclose(library);
	check("removed when the library is gone", removed(), 0);
	return address;
}

int main(int argc, char **argv)
{
	long first, second;

	(void)argc;
	insert(argv[2]);
	first = use(argv[1]);
	insert(argv[3]);
	insert(argv[2]);
	second = use(argv[1]);
	check("it moved", first != second, 1);
	printf("%d failures\n", failures);
	return failures != 0;
}
