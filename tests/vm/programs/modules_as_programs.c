// SPDX-License-Identifier: GPL-2.0-only
/*
 * Runs unchanged kernel modules, each built as a library, in a process of its own: loads it, has
 * its module_init() run, and ends, which runs module_exit().  Prints a line for each, in order:
 * "LIBRARY returned N" (what module_init() returned), "LIBRARY no init_module" (it has none),
 * "LIBRARY signal N" (what ended the process) or "LIBRARY failed" (it could not be loaded).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* The library's own gate: libc has an init_module() too, a system call. */
static int (*find_init(void *library, const char *path))(void)
{
	void *init = dlsym(library, "init_module");
	Dl_info where;

	if (!init || !dladdr(init, &where) || strcmp(where.dli_fname, path))
		return NULL;
	return (int (*)(void))init;
}

static void run(const char *path)
{
	void *library = dlopen(path, RTLD_NOW);
	int (*init)(void);

	if (!library) {
		fprintf(stderr, "%s\n", dlerror());
		printf("%s failed\n", path);
		return;
	}
	init = find_init(library, path);
	if (init)
		printf("%s returned %d\n", path, init());
	else
		printf("%s no init_module\n", path);
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		pid_t child = fork();
		int status;

		if (!child) {
			run(argv[i]);
			exit(0);
		}
		waitpid(child, &status, 0);
		if (WIFSIGNALED(status))
			printf("%s signal %d\n", argv[i], WTERMSIG(status));
		else if (WEXITSTATUS(status))
			printf("%s status %d\n", argv[i], WEXITSTATUS(status));
		fflush(stdout);
	}
	return 0;
}
