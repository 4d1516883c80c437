// SPDX-License-Identifier: GPL-2.0-only
/*
 * Runs unchanged kernel modules, each built as a library, in a process of its own: loads it, has
 * its module_init() run, and ends, which runs module_exit().  Prints "LIBRARY RESULT" lines:
 * what module_init() returned, or how the process ended.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int run(const char *path)
{
	void *library = dlopen(path, RTLD_NOW);
	int (*init)(void) = library ? (int (*)(void))dlsym(library, "init_module") : NULL;

	if (!init) {
		fprintf(stderr, "%s: %s\n", path, dlerror());
		return 99;
	}
	return -init();
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		pid_t child = fork();
		int status;

		if (!child)
			_exit(run(argv[i]));
		waitpid(child, &status, 0);
		if (WIFSIGNALED(status))
			printf("%s signal %d\n", argv[i], WTERMSIG(status));
		else
			printf("%s %d\n", argv[i], -WEXITSTATUS(status));
		fflush(stdout);
	}
	return 0;
}
