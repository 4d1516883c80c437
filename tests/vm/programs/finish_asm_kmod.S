/* SPDX-License-Identifier: GPL-2.0-only */
#include <linux/linkage.h>
#include <asm/nospec-branch.h>
#include "finish_kmod.h"

SYM_FUNC_START(sum_in_assembly)
	lea	(%rdi, %rsi), %rax
	add	%rdx, %rax
	add	%rcx, %rax
	add	%r8, %rax
	add	%r9, %rax
	add	finish_asm_bias(%rip), %rax
	RET
SYM_FUNC_END(sum_in_assembly)

	.section .data
SYM_DATA(finish_asm_bias, .quad 1000)
