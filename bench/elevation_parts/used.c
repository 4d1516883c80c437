// SPDX-License-Identifier: GPL-2.0-only
/* What gates and brackets cost, and the kernel's services in a bracket against outside. */
#define _GNU_SOURCE
#include <kbridge.h>
#include "cost.h"
#include "used_kmod.h"

static void services(const char *where)
{
	char name[64];

	snprintf(name, sizeof(name), "getppid, %s", where);
	MEASURE(name, get_parent());
	snprintf(name, sizeof(name), "gate, %s", where);
	MEASURE(name, used_gate());
	snprintf(name, sizeof(name), "page fault, %s", where);
	page_faults(name);
	snprintf(name, sizeof(name), "signal, %s", where);
	signals(name);
	snprintf(name, sizeof(name), "interrupt, %s", where);
	interrupts(name);
}

int main(void)
{
	unsigned long parent = kb_symbol("__x64_sys_getppid");

	used_gate();
	services("in ring 3");
	if (kb_elevate() || kb_lower()) {
		perror("kb_elevate");
		return 1;
	}
	services("elevated before");
	MEASURE("kb_elevate and kb_lower", kb_elevate(); kb_lower());
	MEASURE("kb_call of getppid", kb_call(parent, 0));
	kb_elevate();
	services("in a bracket");
	kb_lower();
	return 0;
}
