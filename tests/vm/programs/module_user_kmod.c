// SPDX-License-Identifier: GPL-2.0-only
/* Uses a symbol that a module exports (fs/fat): its address is known when the module is loaded. */
#include <linux/kallsyms.h>
#include <linux/uaccess.h>

extern long fat_time_unix2fat(void);
int name_of_it(char *user, unsigned long size);

int name_of_it(char *user, unsigned long size)
{
	char text[KSYM_SYMBOL_LEN];
	int length = snprintf(text, sizeof(text), "%ps", (void *)fat_time_unix2fat);

	if (length >= size)
		return -ENOSPC;
	return copy_to_user((void __user *)user, text, length + 1) ? -EFAULT : length;
}
