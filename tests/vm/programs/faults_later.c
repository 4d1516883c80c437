// SPDX-License-Identifier: GPL-2.0-only
/*
 * faults_later CONTEXT FAULT: null_read, in what the kernel calls by itself.
 * faults_later look: whether the machine is well.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "faults_later_kmod.h"

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*start)(void);
	} contexts[] = {
		{ "timer", timer },
		{ "work", work },
		{ "kernel_thread", thread_of_kernel },
		{ "interrupt", interrupt },
		{ "init", nothing },
		{ "exit", nothing },
	};
	char parameter[64];

	if (argc < 2)
		return 2;
	if (!strcmp(argv[1], "look"))
		return stuck_queues();
	snprintf(parameter, sizeof(parameter), "faults_in=%s", argv[1]);
	setenv("KBRIDGE_PARAMS", parameter, 1);
	for (size_t k = 0; k < sizeof(contexts) / sizeof(*contexts); k++)
		if (!strcmp(argv[1], contexts[k].name))
			return contexts[k].start();
	return 2;
}
