// SPDX-License-Identifier: GPL-2.0-only
/* Calls what the module fat exports (fs/fat/misc.c), which moves with every load of it. */
#include <linux/slab.h>
#include <linux/time64.h>
#include "module_moves_kmod.h"

struct msdos_sb_info;
extern void fat_time_unix2fat(struct msdos_sb_info *sb, struct timespec64 *time, __le16 *of_day,
			      __le16 *date, u8 *centiseconds);

typedef typeof(fat_time_unix2fat) convert;

static convert *const in_data[] = { fat_time_unix2fat };

long address_of_it(int from_data)
{
	convert *volatile from_code = fat_time_unix2fat;

	return (long)(from_data ? *(convert *const volatile *)in_data : from_code);
}

static int converted(convert *function, long seconds)
{
	/* all it looks at is the time zone that the file system was mounted with: none */
	void *sb = kzalloc(PAGE_SIZE, GFP_KERNEL);
	struct timespec64 time = { .tv_sec = seconds };
	__le16 of_day = 0, date = 0;

	if (!sb)
		return -ENOMEM;
	function(sb, &time, &of_day, &date, NULL);
	kfree(sb);
	return of_day ? -EINVAL : le16_to_cpu(date);
}

int date_of(long seconds)
{
	return converted(fat_time_unix2fat, seconds);
}

int date_by_pointer(long seconds)
{
	return converted(*(convert *const volatile *)in_data, seconds);
}
