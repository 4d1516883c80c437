// SPDX-License-Identifier: GPL-2.0-only
/*
 * closing LIBRARY: two images in a process that closes files as daemons do, runs out of them,
 * unloads a library and loads it again.  Every gate must still reach its own function.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>
#include "check.h"
#include "closing_kmod.h"

static long (*second)(long x);

static void *load(const char *path)
{
	void *library = dlopen(path, RTLD_NOW);

	if (!library) {
		puts(dlerror());
		exit(1);
	}
	second = (long (*)(long))dlsym(library, "second");
	return library;
}

static void close_all(void)
{
	fflush(stdout);
	closefrom(3);
}

static void scarce_files(void)
{
	struct rlimit few = { 4, 4 }, before;

	getrlimit(RLIMIT_NOFILE, &before);
	close_all();
	few.rlim_max = before.rlim_max;
	setrlimit(RLIMIT_NOFILE, &few);
	check("with one file left", first(4), 1004);
	check("the same instance", calls(), 6);
	setrlimit(RLIMIT_NOFILE, &before);
}

int main(int argc, char **argv)
{
	struct odd value = { 7, 42 };
	void *library;

	setvbuf(stdout, NULL, _IOLBF, 0);
	check("module_init's gate", init_module(), 0);
	check("its other name", counted_init(), 0);
	check("it ran once", inits(), 1);
	check("driver links to the module", driver_is_linked(), 1);
	check("packed structure", odd(value), 7042);
	check("first", first(1), 1001);
	close_all();
	library = load(argv[1]);
	check("second", second(1), 2001);
	check("first, whose file number the other has", first(2), 1002);
	check("second again", second(2), 2002);
	close_all();
	check("first after both were closed", first(3), 1003);
	check("second after both were closed", second(3), 2003);
	check("calls", calls(), 3);
	for (int i = 0; i < 2; i++)
		first(i);
	scarce_files();
	for (int i = 0; i < 3; i++) {
		dlclose(library);
		library = load(argv[1]);
		check("loaded again", second(i), 2000 + i);
	}
	printf("%d failures\n", failures);
	return failures != 0;
}
