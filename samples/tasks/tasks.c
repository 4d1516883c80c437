// SPDX-License-Identifier: GPL-2.0-only
/* ps without /proc: the processes of the system, from the kernel's own list. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tasks_kmod.h"

int main(void)
{
	struct task *tasks = NULL;
	int count = 64, room;

	do {
		room = count + 16; /* some may be new the next time */
		tasks = reallocarray(tasks, (size_t)room, sizeof(*tasks));
		if (!tasks) {
			perror("tasks");
			return 1;
		}
		count = read_tasks(tasks, room);
	} while (count > room);
	if (count < 0) {
		fprintf(stderr, "tasks: %s\n", strerror(-count));
		return 1;
	}
	printf("  PID  PPID   UID S THREADS  RSS KiB COMMAND\n");
	for (int k = 0; k < count; k++)
		printf("%5d %5d %5u %c %7d %8lu %s\n", tasks[k].pid, tasks[k].parent, tasks[k].uid,
		       tasks[k].state, tasks[k].threads, tasks[k].resident >> 10, tasks[k].name);
	free(tasks);
	return 0;
}
