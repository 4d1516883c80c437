// SPDX-License-Identifier: GPL-2.0-only
/*
 * kaslr LIBRARY: wherever this boot has put the kernel, every kernel name of the program and of
 * a library that it loads later is what /proc/kallsyms says.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "check.h"
#include "kaslr_kmod.h"
#include "kbridge.h"

#define NAME(name) { #name, 0 },
static struct {
	const char *name;
	unsigned long address;
} table[] = {
#include "kaslr.def"
};

#define NAMES (int)(sizeof(table) / sizeof(table[0]))

struct part {
	const char *name;
	int (*addresses)(unsigned long *list, int from_code);
	int (*text)(int which, char *text, unsigned long size);
	int (*pointers)(void);
	int (*percpu)(int cpu, int pid);
};

static void read_kallsyms(void)
{
	FILE *file = fopen("/proc/kallsyms", "r");
	char line[1024], name[1024];
	unsigned long address;
	int found = 0, k;

	while (file && fgets(line, sizeof(line), file)) {
		if (strchr(line, '[') || sscanf(line, "%lx %*c %1023s", &address, name) != 2)
			continue;
		for (k = 0; k < NAMES; k++) {
			if (!strcmp(table[k].name, name)) {
				table[k].address = address;
				found++;
			}
		}
	}
	fclose(file);
	check("names in kallsyms, each once", found, NAMES);
}

static void check_addresses(const struct part *part, int from_code)
{
	unsigned long seen[MANY_NAMES];
	int k;

	check("number of names", part->addresses(seen, from_code), NAMES);
	for (k = 0; k < NAMES; k++)
		check(table[k].name, seen[k], table[k].address);
}

static void check_texts(const struct part *part)
{
	char text[512] = "", version[512] = "";
	FILE *file = fopen("/proc/version", "r");

	part->text(0, text, sizeof(text));
	check("read /proc/version", fgets(version, sizeof(version), file) == version, 1);
	fclose(file);
	check("linux_banner", strcmp(text, version), 0);
	part->text(1, text, sizeof(text));
	check("init_task.comm", strncmp(text, "swapper", 7), 0);
	part->text(2, text, sizeof(text));
	check("a pointer into init_task.comm", strncmp(text, "apper", 5), 0);
}

static void check_cpus(const struct part *part)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	cpu_set_t all, one;
	int cpu;

	sched_getaffinity(0, sizeof(all), &all);
	for (cpu = 0; cpu < cpus; cpu++) {
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		check("bound to a CPU", sched_setaffinity(0, sizeof(one), &one), 0);
		check("per-CPU variables", part->percpu(cpu, getpid()), 0);
	}
	sched_setaffinity(0, sizeof(all), &all);
}

static void check_part(const struct part *part)
{
	printf("-- %s\n", part->name);
	check_addresses(part, 0);
	check_addresses(part, 1);
	check_texts(part);
	check("function pointers", part->pointers(), 0);
	check_cpus(part);
}

static void *named(void *library, const char *name)
{
	void *found = library ? dlsym(library, name) : NULL;

	if (!found) {
		printf("FAIL %s\n", dlerror());
		exit(1);
	}
	return found;
}

int main(int argc, char **argv)
{
	struct part own = { "the program", addresses, text, pointers, percpu };
	struct part later = { "a library loaded later" };
	void *library;
	int k;

	(void)argc;
	read_kallsyms();
	for (k = 0; k < NAMES; k++)
		check("kb_symbol", kb_symbol(table[k].name), table[k].address);
	check_part(&own);
	library = dlopen(argv[1], RTLD_LAZY);
	later.addresses = (int (*)(unsigned long *, int))named(library, "later_addresses");
	later.text = (int (*)(int, char *, unsigned long))named(library, "later_text");
	later.pointers = (int (*)(void))named(library, "later_pointers");
	later.percpu = (int (*)(int, int))named(library, "later_percpu");
	check_part(&later);
	check_part(&own);
	printf("slide %lx\n%d failures\n", kb_symbol("_text") - 0xffffffff81000000ul, failures);
	return failures != 0;
}
