// SPDX-License-Identifier: GPL-2.0-only
#include <linux/mm.h>
#include <linux/vmstat.h>
#include "memory_kmod.h"

unsigned long total_bytes(void)
{
	return totalram_pages() << PAGE_SHIFT;
}

unsigned long free_bytes(void)
{
	return global_zone_page_state(NR_FREE_PAGES) << PAGE_SHIFT;
}
