/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Prints every object of the process and every slot that ld.so fills by a symbol: the reader is
 * tests/vm/slots.py.
 */
#ifndef SLOTS_H
#define SLOTS_H

#include <elf.h>
#include <link.h>
#include <stdio.h>
#include <string.h>

struct dynamic {
	const char *name;
	ElfW(Addr) base;
	const ElfW(Dyn) * entries;
};

/* ld.so has made addresses of what are offsets in the file */
static const char *dynamic_address(const struct dynamic *object, ElfW(Sxword) tag)
{
	const ElfW(Dyn) * one;

	for (one = object->entries; one->d_tag != DT_NULL; one++)
		if (one->d_tag == tag)
			return (const char *)(one->d_un.d_ptr < object->base
						      ? one->d_un.d_ptr + object->base
						      : one->d_un.d_ptr);
	return NULL;
}

static unsigned long dynamic_value(const struct dynamic *object, ElfW(Sxword) tag)
{
	const ElfW(Dyn) * one;

	for (one = object->entries; one->d_tag != DT_NULL; one++)
		if (one->d_tag == tag)
			return one->d_un.d_val;
	return 0;
}

/* The version that symbol `index` has to have, "-" for none. */
static const char *version_of(const struct dynamic *object, unsigned long index)
{
	const char *versions = dynamic_address(object, DT_VERSYM);
	const char *at = dynamic_address(object, DT_VERNEED);
	const char *strings = dynamic_address(object, DT_STRTAB);
	unsigned long files = dynamic_value(object, DT_VERNEEDNUM);
	unsigned int wanted = versions ? ((const ElfW(Half) *)versions)[index] & 0x7fff : 0;

	for (; at && files; files--) {
		const ElfW(Verneed) *file = (const ElfW(Verneed) *)at;
		const char *next = at + file->vn_aux;
		unsigned int k;

		for (k = 0; k < file->vn_cnt; k++) {
			const ElfW(Vernaux) *one = (const ElfW(Vernaux) *)next;

			if ((one->vna_other & 0x7fff) == wanted)
				return strings + one->vna_name;
			next += one->vna_next;
		}
		at += file->vn_next;
	}
	return "-";
}

static void print_relocations(FILE *out, const struct dynamic *object, ElfW(Sxword) table,
			      ElfW(Sxword) size)
{
	const ElfW(Rela) *one = (const ElfW(Rela) *)dynamic_address(object, table);
	const ElfW(Sym) *symbols = (const ElfW(Sym) *)dynamic_address(object, DT_SYMTAB);
	const char *strings = dynamic_address(object, DT_STRTAB);
	unsigned long count = dynamic_value(object, size) / sizeof(*one);

	for (; one && count; count--, one++) {
		const ElfW(Sym) *symbol = symbols + ELF64_R_SYM(one->r_info);
		unsigned long type = ELF64_R_TYPE(one->r_info);
		const char *binding =
			ELF64_ST_BIND(symbol->st_info) == STB_WEAK ? "weak" : "strong";

		if (type != R_X86_64_64 && type != R_X86_64_GLOB_DAT && type != R_X86_64_JUMP_SLOT)
			continue;
		fprintf(out, "slot %s %lu %s %s %s %lx %lx\n", object->name, type,
			strings + symbol->st_name, version_of(object, ELF64_R_SYM(one->r_info)),
			binding, *(const unsigned long *)(object->base + one->r_offset),
			(unsigned long)one->r_addend);
	}
}

static int print_object(struct dl_phdr_info *info, size_t size, void *out)
{
	struct dynamic object = { info->dlpi_name, info->dlpi_addr, NULL };
	unsigned long start = -1, end = 0;
	int k;

	(void)size;
	if (!*object.name)
		object.name = "program";
	for (k = 0; k < info->dlpi_phnum; k++) {
		const ElfW(Phdr) *part = &info->dlpi_phdr[k];
		unsigned long from = info->dlpi_addr + part->p_vaddr;

		if (part->p_type == PT_DYNAMIC)
			object.entries = (const ElfW(Dyn) *)from;
		if (part->p_type != PT_LOAD)
			continue;
		if (from < start)
			start = from;
		if (from + part->p_memsz > end)
			end = from + part->p_memsz;
	}
	fprintf((FILE *)out, "object %s %lx %lx\n", object.name, start, end);
	if (object.entries && !strstr(object.name, "linux-vdso")) {
		print_relocations((FILE *)out, &object, DT_RELA, DT_RELASZ);
		print_relocations((FILE *)out, &object, DT_JMPREL, DT_PLTRELSZ);
	}
	return 0;
}

static void print_slots(FILE *out)
{
	dl_iterate_phdr(print_object, out);
}

#endif
