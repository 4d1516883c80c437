// SPDX-License-Identifier: GPL-2.0-only
/* Executes privileged instructions, each in user mode first, where it faults. */
#define _GNU_SOURCE
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include "instructions_kmod.h"

#define BUSY_MS 50

static sigjmp_buf back;

static void on_fault(int number)
{
	siglongjmp(back, number);
}

/* Whether the instruction works here, in user mode. */
static int works(unsigned long (*instruction)(void))
{
	int number = sigsetjmp(back, 1);

	if (number) {
		printf("%-26s", sigabbrev_np(number));
		return 0;
	}
	printf("%-#26lx", instruction());
	return 1;
}

/* Interrupts of its timer that a CPU took since boot, as the kernel tells everybody. */
static long proc_interrupts(int cpu)
{
	char line[8192];
	long count = -1;
	FILE *file = fopen("/proc/interrupts", "r");

	while (file && fgets(line, sizeof(line), file)) {
		char *word = strstr(line, "LOC:");

		for (int k = 0, used = 4; word && k <= cpu; k++, word += used)
			sscanf(k ? word : (word += used), "%ld%n", &count, &used);
	}
	if (file)
		fclose(file);
	return count;
}

static int measure(int cpu, int interrupts_off)
{
	long before = proc_interrupts(cpu);
	unsigned int count = timer_interrupts(BUSY_MS, interrupts_off);

	printf("%d ms with interrupts %-3s  %2u timer interrupts (/proc/interrupts: %ld)\n",
	       BUSY_MS, interrupts_off ? "off" : "on", count, proc_interrupts(cpu) - before);
	return interrupts_off ? count == 0 : count > 0;
}

int main(void)
{
	static const struct {
		const char *text;
		unsigned long (*user)(void);
		unsigned long (*kernel)(void);
	} table[] = {
		{ "mov %cr0, %reg", mov_from_cr0, kernel_cr0 },
		{ "rdmsr (LSTAR)", rdmsr_syscall_entry, kernel_syscall_entry },
		{ "out, in (CMOS year)", out_and_in, kernel_year },
		{ "cli, pushf, sti", cli_and_sti, kernel_flags },
		{ "invlpg", invlpg, kernel_invlpg },
	};
	struct sigaction action = { .sa_handler = on_fault };
	int cpu = sched_getcpu(), faults = 0, tries = 10, ticks = 0;
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	sched_setaffinity(0, sizeof(one), &one);
	sigaction(SIGSEGV, &action, NULL);

	printf("%-22s%-26s%s\n", "instruction", "in the app", "in the kmod");
	for (unsigned int k = 0; k < sizeof(table) / sizeof(*table); k++) {
		printf("%-22s", table[k].text);
		faults += !works(table[k].user);
		printf("%#lx\n", table[k].kernel());
	}
	if (!measure(cpu, 1))
		return 1;
	while (!ticks && tries--) /* a virtual CPU may stand still for longer than that */
		ticks = measure(cpu, 0);
	return ticks && faults == 5 ? 0 : 1;
}
