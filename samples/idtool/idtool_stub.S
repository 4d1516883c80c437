/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where the processor comes first with an interrupt or exception that is counted.
 *
 * State at entry: CPL 0, IF 0, GS of whatever was interrupted (so no per-CPU data), on the stack
 * the processor's frame, with an error code or without.  It is the same at the jump, but for the
 * flags, whose old value is in the frame.
 */
#include <linux/linkage.h>
#include <linux/objtool.h>
#include <asm/unwind_hints.h>

	.macro COUNT name:req jump:req offset:req
SYM_CODE_START(\name)
	UNWIND_HINT_IRET_REGS offset=\offset
	ENDBR
	lock incq idtool_counter(%rip)
SYM_INNER_LABEL(\jump, SYM_L_GLOBAL)
	ANNOTATE_NOENDBR /* its address is taken, to write there; nothing jumps to it */
	.byte	0xe9 /* jmp, made to lead to the handler before the table is installed */
	.long	0
	ud2
SYM_CODE_END(\name)
	.endm

	.text
COUNT idtool_stub, idtool_stub_jump, 0
COUNT idtool_stub_error_code, idtool_stub_error_code_jump, 8
