// SPDX-License-Identifier: GPL-2.0-only
/* What a debugger of the kernel looks at: lines, arguments, variables, callers. */
#include <linux/sched.h>
#include "debugged_kmod.h"

struct record {
	int pid;
	long calls;
};

static struct record record;
static volatile int stop;

/* not specialised for its only call: the debugger shows the arguments as written */
static __attribute__((noipa)) int inner(struct record *mine, int number)
{
	int twice = 2 * number;

	mine->calls++;
	return mine->pid + twice; /* the debugger stops here */
}

int step(int number)
{
	int sum;

	record.pid = current->pid;
	sum = inner(&record, number);
	return sum != record.pid + 2 * number || stop;
}
