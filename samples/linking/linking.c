// SPDX-License-Identifier: GPL-2.0-only
/*
 * Shows what the dynamic linker bound for this program's kernel names: it reads its own dynamic
 * section, and compares each slot with /proc/kallsyms.  "LD_DEBUG=bindings build/linking" has ld.so
 * tell the same.
 */
#include <elf.h>
#include <link.h>
#include <stdio.h>
#include <string.h>
#include "linking_kmod.h"

#define VERSION "LINUX_KERNEL"
#define MOST 64 /* slots */

static struct dynamic {
	const ElfW(Sym) * symbols;
	const char *names;
	const ElfW(Rela) * slots;
	unsigned long slots_size;
	const ElfW(Half) * versions;
	const ElfW(Verneed) * needed;
} dynamic;

/* A word of this program that ld.so fills with the address of a kernel symbol. */
struct slot {
	const char *name;
	unsigned long *place, wanted;
	int right;
};

static void read_dynamic(unsigned long base)
{
	for (const ElfW(Dyn) *d = _DYNAMIC; d->d_tag != DT_NULL; d++) {
		/* ld.so has added the program's base to some of them */
		void *pointer = (void *)(d->d_un.d_ptr + (d->d_un.d_ptr < base ? base : 0));

		if (d->d_tag == DT_SYMTAB)
			dynamic.symbols = pointer;
		else if (d->d_tag == DT_STRTAB)
			dynamic.names = pointer;
		else if (d->d_tag == DT_RELA)
			dynamic.slots = pointer;
		else if (d->d_tag == DT_RELASZ)
			dynamic.slots_size = d->d_un.d_val;
		else if (d->d_tag == DT_VERSYM)
			dynamic.versions = pointer;
		else if (d->d_tag == DT_VERNEED)
			dynamic.needed = pointer;
	}
}

/* The number that stands for VERSION in this program; prints the library that it is of. */
static int kernel_version(void)
{
	const char *need = (const char *)dynamic.needed;

	for (;;) {
		const ElfW(Verneed) *n = (const void *)need;
		const ElfW(Vernaux) *v = (const void *)(need + n->vn_aux);

		if (!strcmp(dynamic.names + v->vna_name, VERSION)) {
			printf("version %s of %s\n", VERSION, dynamic.names + n->vn_file);
			return v->vna_other;
		}
		if (!n->vn_next)
			return -1;
		need += n->vn_next;
	}
}

/* The slots of this program that are for names of the kernel; how many they are. */
static int find_slots(unsigned long base, int version, struct slot *slots)
{
	int count = 0;

	for (unsigned long k = 0; k < dynamic.slots_size / sizeof(*dynamic.slots); k++) {
		const ElfW(Rela) *r = &dynamic.slots[k];
		unsigned long index = ELF64_R_SYM(r->r_info);

		if (!index || (dynamic.versions[index] & 0x7fff) != version || count == MOST)
			continue;
		slots[count].name = dynamic.names + dynamic.symbols[index].st_name;
		slots[count].place = (unsigned long *)(base + r->r_offset);
		slots[count].wanted = *slots[count].place - (unsigned long)r->r_addend;
		count++;
	}
	return count;
}

/* Marks the slots that hold what the kernel lists for their names. */
static void compare(struct slot *slots, int count)
{
	char text[1024], type, name[512];
	unsigned long address;
	FILE *file = fopen("/proc/kallsyms", "r");

	while (file && fgets(text, sizeof(text), file)) {
		if (sscanf(text, "%lx %c %511s", &address, &type, name) != 3)
			continue;
		for (int k = 0; k < count; k++)
			if (slots[k].wanted == address && !strcmp(slots[k].name, name))
				slots[k].right = 1;
	}
	if (file)
		fclose(file);
}

static int print_slots(unsigned long base, int version)
{
	struct slot slots[MOST] = {};
	int count = find_slots(base, version, slots), wrong = 0;

	compare(slots, count);
	printf("slot              holds             name\n");
	for (int k = 0; k < count; k++) {
		printf("%016lx  %016lx  %s%s\n", (unsigned long)slots[k].place, *slots[k].place,
		       slots[k].name, slots[k].right ? "" : "  NOT in /proc/kallsyms");
		wrong += !slots[k].right;
	}
	printf("%d names bound, %d not as in /proc/kallsyms\n", count, wrong);
	return count && !wrong ? 0 : -1;
}

int main(void)
{
	struct named named;
	char banner[512] = "";
	unsigned long base = _r_debug.r_map->l_addr; /* of this program */
	int version;

	read_dynamic(base);
	version = kernel_version();
	if (version < 0) {
		fprintf(stderr,
			"linking: ld.so binds no kernel name here (built with link=script?)\n");
		return 1;
	}
	if (print_slots(base, version))
		return 1;
	if (read_named(&named, banner, sizeof(banner) - 1))
		return 1;
	printf("the kmod has ksys_write at %lx, init_task at %lx, linux_banner at %lx\n",
	       named.ksys_write, named.init_task, named.linux_banner);
	printf("the kmod's memcpy is at %lx, the app's at %lx\n", named.memcpy,
	       (unsigned long)memcpy);
	printf("the kernel says: %s", banner);
	return 0;
}
