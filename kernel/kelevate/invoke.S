/* SPDX-License-Identifier: GPL-2.0-only */
#include <linux/linkage.h>
#include <linux/objtool.h>
#include <asm/nospec-branch.h>
#include <asm/unwind_hints.h>

/*
 * unsigned long kelevate_invoke(unsigned long function, const u64 words[6]): a jump to it by a
 * return.  With indirect branch tracking, a function that the kernel itself never calls through a
 * pointer has no endbr, which a jump or call by register would need.
 */
SYM_FUNC_START(kelevate_invoke)
	movq %rdi, %rax
	movq %rsi, %r11
	movq 0(%r11), %rdi
	movq 8(%r11), %rsi
	movq 16(%r11), %rdx
	movq 24(%r11), %rcx
	movq 32(%r11), %r8
	movq 40(%r11), %r9
	ANNOTATE_INTRA_FUNCTION_CALL
	call 1f
	int3
1:	movq %rax, (%rsp)
	UNWIND_HINT_FUNC
	RET
SYM_FUNC_END(kelevate_invoke)
