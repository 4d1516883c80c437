// SPDX-License-Identifier: GPL-2.0-only
/* Its kmod uses a function of the module fat, wherever that one is this time. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <kbridge.h>
#include "check.h"
#include "module_moves_kmod.h"

#define SYMBOL "fat_time_unix2fat"

static unsigned long in_kallsyms(void)
{
	FILE *file = fopen("/proc/kallsyms", "r");
	char line[1024], name[1024], module[1024];
	unsigned long address = 0, one;

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "%lx %*c %1023s [%1023[^]]", &one, name, module) == 3 &&
		    !strcmp(name, SYMBOL) && !strcmp(module, "fat"))
			address = one;
	fclose(file);
	return address;
}

int main(void)
{
	unsigned long address = in_kallsyms();

	check("the module is there", address != 0, 1);
	check("kb_symbol", kb_symbol(SYMBOL), address);
	check("from code", address_of_it(0), address);
	check("from initialised data", address_of_it(1), address);
	check("called", date_of(946684800 /* 1 January 2000 */), (2000 - 1980) << 9 | 1 << 5 | 1);
	check("called by a pointer", date_by_pointer(946684800 + 86400), 20 << 9 | 1 << 5 | 2);
	check("removing it", syscall(SYS_delete_module, "fat", O_NONBLOCK), -1);
	check("it is held", errno, EWOULDBLOCK);
	printf("fat %lx\n%d failures\n", address, failures);
	return failures != 0;
}
