// SPDX-License-Identifier: GPL-2.0-only
/*
 * Prints the privileged registers of the CPU that it runs on, bit by bit.  With the word "stay" it
 * then stays on that CPU until it is killed, so that somebody can compare (QEMU's monitor).
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include "registers_kmod.h"

struct bit {
	int number;
	const char *name;
};

static const struct bit cr0_bits[] = {
	{ 0, "PE" },  { 1, "MP" },  { 2, "EM" },  { 3, "TS" },	{ 4, "ET" },  { 5, "NE" },
	{ 16, "WP" }, { 18, "AM" }, { 29, "NW" }, { 30, "CD" }, { 31, "PG" }, {},
};

static const struct bit cr4_bits[] = {
	{ 0, "VME" },	      { 1, "PVI" },   { 2, "TSD" },	 { 3, "DE" },	    { 4, "PSE" },
	{ 5, "PAE" },	      { 6, "MCE" },   { 7, "PGE" },	 { 8, "PCE" },	    { 9, "OSFXSR" },
	{ 10, "OSXMMEXCPT" }, { 11, "UMIP" }, { 12, "LA57" },	 { 13, "VMXE" },    { 14, "SMXE" },
	{ 16, "FSGSBASE" },   { 17, "PCID" }, { 18, "OSXSAVE" }, { 20, "SMEP" },    { 21, "SMAP" },
	{ 22, "PKE" },	      { 23, "CET" },  { 24, "PKS" },	 { 28, "LAM_SUP" }, {},
};

static const struct bit efer_bits[] = {
	{ 0, "SCE" },	 { 8, "LME" }, { 10, "LMA" }, { 11, "NXE" }, { 12, "SVME" },
	{ 14, "FFXSR" }, {},
};

/* flags that the syscall instruction clears */
static const struct bit flag_bits[] = {
	{ 0, "CF" },  { 2, "PF" },  { 4, "AF" },  { 6, "ZF" },	{ 7, "SF" },
	{ 8, "TF" },  { 9, "IF" },  { 10, "DF" }, { 11, "OF" }, { 14, "NT" },
	{ 16, "RF" }, { 18, "AC" }, { 21, "ID" }, {},
};

static const struct bit apic_bits[] = {
	{ 8, "BSP" },
	{ 10, "X2APIC" },
	{ 11, "ENABLED" },
	{},
};

static void print(const char *name, unsigned long value, const char *meaning)
{
	printf("%-15s %016lx  %s\n", name, value, meaning);
}

static void print_bits(const char *name, unsigned long value, const struct bit *bits)
{
	char text[256] = "";

	for (; bits->name; bits++)
		if (value >> bits->number & 1)
			strcat(strcat(text, *text ? " " : ""), bits->name);
	print(name, value, text);
}

static void print_all(const struct registers *r)
{
	char text[96];

	printf("CPU %d\n", r->cpu);
	print_bits("CR0", r->cr0, cr0_bits);
	print("CR2", r->cr2, "address of the last page fault");
	snprintf(text, sizeof(text), "page table at %#lx, PCID %lu", r->cr3 & 0xffffffffff000,
		 r->cr4 >> 17 & 1 ? r->cr3 & 0xfff : 0);
	print("CR3", r->cr3, text);
	print_bits("CR4", r->cr4, cr4_bits);
	print("CR8", r->cr8, "interrupt priority: what is not above it waits");
	print_bits("EFER", r->efer, efer_bits);
	snprintf(text, sizeof(text), "segments: kernel %#lx, user %#lx", r->star >> 32 & 0xffff,
		 r->star >> 48);
	print("STAR", r->star, text);
	print("LSTAR", r->lstar, r->lstar_name);
	print("CSTAR", r->cstar, r->cstar_name);
	print_bits("SFMASK", r->sfmask, flag_bits);
	print("FS_BASE", r->fs_base, "this thread's variables");
	print("GS_BASE", r->gs_base, "this CPU's variables");
	print("KERNEL_GS_BASE", r->kernel_gs_base, "GS of user mode");
	print_bits("APIC_BASE", r->apic_base, apic_bits);
	print("PAT", r->pat, "types of memory that a page table may name");
}

int main(int argc, char **argv)
{
	int stay = argc > 1 && !strcmp(argv[1], "stay");
	struct registers r;
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	sched_setaffinity(0, sizeof(one), &one);
	if (read_registers(&r)) {
		fprintf(stderr, "registers: bad address\n");
		return 1;
	}
	print_all(&r);
	fflush(stdout);
	while (stay)
		;
	return 0;
}
