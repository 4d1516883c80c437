// SPDX-License-Identifier: GPL-2.0-only
/*
 * Makes the run-time libkernel.so of this boot: the host's file has the addresses that the kernel
 * is linked for; KASLR has moved every one at or above its text by one slide.
 */
#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <internal.h> /* of libkbridge: its reader of notes */
#include "guest.h"

#define KERNEL_BASE 0xffffffff80000000ul /* __START_KERNEL_map in asm/page_64_types.h */
#define KASLR_SIZE 0x40000000ul		 /* KERNEL_IMAGE_SIZE there, with CONFIG_RANDOMIZE_BASE */
#define KASLR_ALIGN 0x200000ul		 /* the least CONFIG_PHYSICAL_ALIGN on x86-64 */
#define MAX_LIBRARY (64ul * 1024 * 1024)
#define NOTE_KERNEL 1  /* release, build ID */
#define NOTE_SYMBOLS 5 /* slide (8 bytes), source */

struct library {
	char *data;
	size_t size;
	Elf64_Sym *symbols;
	size_t count;
	const char *names;
	size_t names_size;
};

static int bad(const char *why)
{
	warn("libkernel.so of the initramfs: %s", why);
	return -1;
}

static int inside(const struct library *lib, const Elf64_Shdr *section)
{
	return section->sh_offset <= lib->size &&
	       section->sh_size <= lib->size - section->sh_offset;
}

static const Elf64_Shdr *sections_of(const struct library *lib, size_t *count)
{
	const Elf64_Ehdr *head = (const Elf64_Ehdr *)lib->data;

	if (lib->size < sizeof(*head) || memcmp(head->e_ident, ELFMAG, SELFMAG) ||
	    head->e_shentsize != sizeof(Elf64_Shdr) || head->e_shoff > lib->size ||
	    head->e_shnum > (lib->size - head->e_shoff) / sizeof(Elf64_Shdr) || head->e_shoff % 8)
		return NULL;
	*count = head->e_shnum;
	return (const Elf64_Shdr *)(lib->data + head->e_shoff);
}

static int find_symbols(struct library *lib)
{
	size_t count, k;
	const Elf64_Shdr *sections = sections_of(lib, &count), *names;

	for (k = 0; sections && k < count; k++) {
		if (sections[k].sh_type != SHT_DYNSYM || sections[k].sh_link >= count)
			continue;
		names = &sections[sections[k].sh_link];
		if (!inside(lib, &sections[k]) || !inside(lib, names) || !names->sh_size ||
		    sections[k].sh_offset % 8 || lib->data[names->sh_offset + names->sh_size - 1])
			return bad("its dynamic symbols are damaged");
		lib->symbols = (Elf64_Sym *)(lib->data + sections[k].sh_offset);
		lib->count = sections[k].sh_size / sizeof(Elf64_Sym);
		lib->names = lib->data + names->sh_offset;
		lib->names_size = names->sh_size;
		return 0;
	}
	return bad("no dynamic symbols in it");
}

static uint64_t address_in(const struct library *lib, const char *name)
{
	size_t k;

	for (k = 1; k < lib->count; k++)
		if (lib->symbols[k].st_name < lib->names_size &&
		    !strcmp(lib->names + lib->symbols[k].st_name, name))
			return lib->symbols[k].st_value;
	return 0;
}

static const unsigned char *library_note(const struct library *lib, uint32_t type, size_t *size)
{
	const Elf64_Ehdr *head = (const Elf64_Ehdr *)lib->data;
	const Elf64_Phdr *segment;
	const unsigned char *note = NULL;
	size_t k;

	if (head->e_phentsize != sizeof(*segment) || head->e_phoff > lib->size ||
	    head->e_phnum > (lib->size - head->e_phoff) / sizeof(*segment))
		return NULL;
	for (k = 0; !note && k < head->e_phnum; k++) {
		segment = (const Elf64_Phdr *)(lib->data + head->e_phoff) + k;
		if (segment->p_type == PT_NOTE && segment->p_offset <= lib->size &&
		    segment->p_filesz <= lib->size - segment->p_offset)
			note = kb_note((unsigned char *)lib->data + segment->p_offset,
				       segment->p_filesz, "kbridge", type, size);
	}
	return note;
}

/* The build ID that the library is for: the second string of its note. */
static const char *library_build_id(const struct library *lib)
{
	size_t size;
	const char *note = (const char *)library_note(lib, NOTE_KERNEL, &size), *end;

	if (!note || !size || note[size - 1])
		return NULL;
	end = memchr(note, 0, size);
	return end + 1 < note + size ? end + 1 : NULL;
}

static int check_build_id(const struct library *lib)
{
	const char *wanted = library_build_id(lib);
	char running[129];

	if (!wanted)
		return bad("no kbridge note in it");
	if (kb_running_build_id(running, sizeof(running)))
		return bad("the running kernel tells no build ID");
	if (strcmp(running, wanted)) {
		warn("libkernel.so is for build ID %s, the running kernel has %s", wanted, running);
		return -1;
	}
	return 0;
}

/*
 * The running kernel's addresses of two names, one pass over /proc/kallsyms up to both: it is in
 * the order of addresses, and reading all of it takes half a second on an emulated processor.
 */
static int running_addresses(const char *const names[2], uint64_t addresses[2])
{
	FILE *file = fopen("/proc/kallsyms", "re");
	char line[1024], name[512];
	unsigned long address;
	int k;

	addresses[0] = addresses[1] = 0;
	while (file && !(addresses[0] && addresses[1]) && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%lx %*c %511s", &address, name) != 2)
			continue;
		for (k = 0; k < 2; k++)
			if (!strcmp(name, names[k]))
				addresses[k] = address;
	}
	if (file)
		fclose(file);
	return addresses[0] && addresses[1] ? 0 : -1;
}

static int find_slide(const struct library *lib, uint64_t *slide)
{
	static const char *const names[2] = { "_text", "_stext" };
	uint64_t linked[2], running[2];
	int k;

	if (running_addresses(names, running))
		return bad("/proc/kallsyms has no _text and _stext");
	for (k = 0; k < 2; k++) {
		linked[k] = address_in(lib, names[k]);
		if (linked[k] < KERNEL_BASE)
			return bad("no _text and _stext in it");
	}
	*slide = running[0] - linked[0];
	if (running[1] - linked[1] != *slide || *slide >= KASLR_SIZE || *slide % KASLR_ALIGN)
		return bad("its addresses are not the running kernel's");
	return 0;
}

static int apply_slide(struct library *lib, uint64_t slide)
{
	size_t k, size;
	const unsigned char *note = library_note(lib, NOTE_SYMBOLS, &size);
	Elf64_Sym *symbol;

	if (!note || size < sizeof(slide))
		return bad("it does not say its slide");
	memcpy((void *)note, &slide, sizeof(slide));
	for (k = 1; k < lib->count; k++) {
		symbol = &lib->symbols[k];
		if (symbol->st_value < KERNEL_BASE)
			continue; /* per-CPU offsets and constants stay */
		if (symbol->st_shndx != SHN_ABS || symbol->st_value + slide < KERNEL_BASE)
			return bad("a symbol in it is no kernel address");
		symbol->st_value += slide;
	}
	return 0;
}

/* 0; 1 when the initramfs holds none; -1 after a warning. */
int make_libkernel(const char *from, const char *to)
{
	struct library lib = { 0 };
	uint64_t slide;
	int err;

	lib.data = read_file(from, MAX_LIBRARY, &lib.size);
	if (!lib.data)
		return 1;
	err = find_symbols(&lib) || check_build_id(&lib) || find_slide(&lib, &slide) ||
	      apply_slide(&lib, slide);
	if (!err && write_file(to, lib.data, lib.size, 0600))
		err = bad("cannot write the one of this boot");
	free(lib.data);
	return err ? -1 : 0;
}
