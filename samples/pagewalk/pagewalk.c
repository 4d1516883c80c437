// SPDX-License-Identifier: GPL-2.0-only
/*
 * Prints the page tables of its own address space, the user half, as a tree, and compares every
 * page with /proc/self/pagemap.  With the word "all" each page has a line of its own; with "stay"
 * it then stays on its CPU until it is killed, so that somebody can compare (QEMU's monitor).
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "pagewalk_kmod.h"

#define PAGE 4096ul
#define HUGE_PAGE (2ul << 20)
#define PAGEMAP_PRESENT (1ull << 63)
#define PAGEMAP_PFN ((1ull << 55) - 1)

static int pagemap, every_page;
static unsigned long pages, different;

/* What a line says: memory that follows on and has the same rights. */
static struct run {
	unsigned long start, end, physical, flags, step;
} run;

static const char *rights(unsigned long flags)
{
	static char text[8];

	snprintf(text, sizeof(text), "%c%c%c%c%c%c", flags & ENTRY_USER ? 'u' : '-',
		 flags & ENTRY_WRITE ? 'w' : '-', flags & ENTRY_EXECUTE ? 'x' : '-',
		 flags & ENTRY_ACCESSED ? 'a' : '-', flags & ENTRY_DIRTY ? 'd' : '-',
		 flags & ENTRY_LEAF ? ' ' : 't');
	return text;
}

static void print_run(int levels)
{
	unsigned long count;

	if (!run.step)
		return;
	count = (run.end - run.start) / run.step;
	printf("%*s%012lx-%012lx  %s  %lu page%s of %lu KiB at %#lx%s\n",
	       2 * (levels - (run.step == PAGE	      ? 1
			      : run.step == HUGE_PAGE ? 2
						      : 3)) +
		       2,
	       "", run.start, run.end, rights(run.flags), count, count > 1 ? "s" : "",
	       run.step >> 10, run.physical, count > 1 ? " ..." : "");
	run.step = 0;
}

static void compare(unsigned long address, unsigned long physical, unsigned long size)
{
	for (unsigned long at = 0; at < size; at += PAGE) {
		uint64_t entry = 0;

		pages++;
		if (pread(pagemap, &entry, 8, (off_t)((address + at) / PAGE * 8)) != 8 ||
		    !(entry & PAGEMAP_PRESENT) || (entry & PAGEMAP_PFN) != (physical + at) / PAGE)
			different++;
	}
}

static void leaf(unsigned long address, const struct entry *e, unsigned long size, int levels)
{
	compare(address, e->physical, size);
	if (!every_page && run.step == size && run.end == address && run.flags == e->flags) {
		run.end += size;
		return;
	}
	print_run(levels);
	run = (struct run){ address, address + size, e->physical, e->flags, size };
}

/* Prints what lies below one table: `first` is the lowest address that it is for. */
static int walk(unsigned long first, int level, int levels)
{
	static const char *const names[] = { "", "PTE", "PMD", "PUD", "P4D", "PGD" };
	unsigned long size = PAGE << 9 * (level - 1); /* that one entry is for */
	int err = 0, count = level == levels ? TABLE_ENTRIES / 2 : TABLE_ENTRIES;
	struct entry *entries = malloc(TABLE_ENTRIES * sizeof(*entries));

	/* the entries may change while this program walks: each table is one picture */
	if (!entries || page_table(first, level, entries) != TABLE_ENTRIES)
		err = -1;
	for (int k = 0; !err && k < count; k++) {
		unsigned long address = first + k * size;

		if (entries[k].flags & ENTRY_LEAF) {
			leaf(address, &entries[k], size, levels);
		} else if (entries[k].flags & ENTRY_PRESENT) {
			print_run(levels);
			printf("%*s%s[%d] %012lx  %s  table at %#lx\n", 2 * (levels - level) + 2,
			       "", names[level], k, address, rights(entries[k].flags),
			       entries[k].physical);
			err = walk(address, level - 1, levels);
		}
	}
	print_run(levels);
	free(entries);
	return err;
}

/* Memory that the kernel is asked to map with one entry for 2 MiB. */
static void use_huge_page(void)
{
	char *area = mmap(NULL, 2 * HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);

	if (area == MAP_FAILED)
		return;
	area = (char *)(((uintptr_t)area + HUGE_PAGE - 1) & -HUGE_PAGE);
	madvise(area, HUGE_PAGE, MADV_HUGEPAGE);
	memset(area, 1, HUGE_PAGE);
}

int main(int argc, char **argv)
{
	struct root root;
	cpu_set_t one;
	int stay = 0;

	for (int k = 1; k < argc; k++) {
		every_page |= !strcmp(argv[k], "all");
		stay |= !strcmp(argv[k], "stay");
	}
	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	sched_setaffinity(0, sizeof(one), &one);
	pagemap = open("/proc/self/pagemap", O_RDONLY);
	use_huge_page();
	mlockall(MCL_CURRENT); /* so that no page comes or goes meanwhile */
	if (pagemap < 0 || page_table_root(&root)) {
		perror("pagewalk");
		return 1;
	}
	printf("CR3 %#lx, %d levels, root of user mode at %#lx%s\n", root.cr3, root.levels,
	       root.physical, root.isolated ? " (page-table isolation)" : "");
	printf("u user  w writable  x executable  a accessed  d dirty  t names a table\n");
	if (walk(0, root.levels, root.levels))
		return 1;
	printf("%lu pages of 4 KiB, /proc/self/pagemap differs in %lu\n", pages, different);
	fflush(stdout);
	while (stay)
		;
	return different ? 1 : 0;
}
