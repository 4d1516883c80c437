// SPDX-License-Identifier: GPL-2.0-only
#include <stdio.h>
#include "memory_kmod.h"
#include "snapshot.h"

void show_memory(void)
{
	printf("%lu MiB of memory, %lu of them free\n", total_bytes() >> 20, free_bytes() >> 20);
}
