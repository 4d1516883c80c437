// SPDX-License-Identifier: GPL-2.0-only
#include <stdio.h>
#include "snapshot.h"
#include "tasks_kmod.h"

void show_tasks(void)
{
	printf("%d processes with %d threads; %lu were started since boot\n", count_processes(),
	       count_threads(), count_forks());
}
