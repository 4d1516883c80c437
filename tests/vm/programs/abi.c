// SPDX-License-Identifier: GPL-2.0-only
/* Says whether the functions and structures that its kmod uses are what it takes them for. */
#include <stdio.h>
#include <unistd.h>
#include "abi_kmod.h"

int main(void)
{
	int right = own_pid() == getpid() && processes() > 0;

	puts(right ? "ok   abi" : "FAIL abi");
	return !right;
}
