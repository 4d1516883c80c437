/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Ways into the kernel, and out of it, of a thread whose user code runs in ring 0.
 *
 * The kernel itself always sees an ordinary user thread: what leads in says so in the frame that
 * it hands over, and only the last iret goes to ring 0.  Elevated code runs with the kernel's GS
 * base and page tables; it is told from the kernel's own by its stack, which is the user's.
 */
#include <linux/linkage.h>
#include <linux/objtool.h>
#include <asm/asm.h>
#include <asm/nospec-branch.h>
#include <asm/percpu.h>
#include <asm/segment.h>
#include <asm/unwind_hints.h>
#include "entry.h"

/* struct pt_regs, which is ABI */
#define REGS_RAX   80
#define REGS_CS	   136
#define REGS_FLAGS 144
#define REGS_SS	   160

#define FLAGS_FIXED 2
#define FLAGS_IF   0x200
#define FLAGS_AC   0x40000

#define PAGE_FAULT 14
#define VSYSCALL_ADDR (-10 << 20) /* which only asm/vsyscall.h has, for C */
#define DEBUG	   1
#define DR6_EMPTY  0xffff0ff0

/* What lies on the stack once a vector's registers are saved. */
#define AT_RDX	   0
#define AT_RCX	   8
#define AT_RAX	   16
#define AT_VECTOR  24
#define AT_ERROR   32
#define AT_RIP	   40
#define AT_CS	   48
#define AT_FLAGS   56
#define AT_RSP	   64
#define AT_SS	   72

	.text

/*
 * kelevate_vectors, kelevate_vectors_in_place: 256 entries of VECTOR_SIZE bytes each.  The first
 * is for an IDT whose gates switch to a stack of ours (VECTOR_STACK_SIZE), the second for one
 * whose gates stay on the stack that is in use.
 */
.macro VECTORS name, common
	.balign 64
SYM_CODE_START(\name)
	vector = 0
.rept 256
	.balign VECTOR_SIZE
	.if vector < 32
	has_error = (VECTORS_WITH_ERROR >> vector) & 1
	.else
	has_error = 0
	.endif
	.if has_error
	UNWIND_HINT_IRET_REGS offset=8
	endbr64
	.else
	UNWIND_HINT_IRET_REGS
	endbr64
	pushq $0
	.endif
	pushq $vector
	jmp \common
	vector = vector + 1
.endr
SYM_CODE_END(\name)
.endm

/*
 * Move a vector's frame to where the kernel wants it, and enter the kernel there.  A pop from one
 * stack to the other is one instruction a word.
 */
.macro COMMON name, switched
SYM_CODE_START_LOCAL(\name)
	UNWIND_HINT_IRET_REGS offset=16
	pushq %rdx
	cld
	testb $3, (AT_CS - 16)(%rsp)
	jnz .Lring3\@
	movq (AT_RSP - 16)(%rsp), %rdx
	testq %rdx, %rdx
	js .Lkernel\@
	movq PER_CPU_VAR(kelevate_stack_top), %rdx
.Lmove\@:
	movq %rax, (AT_RAX - 80)(%rdx)
	movq %rcx, (AT_RCX - 80)(%rdx)
	popq (AT_RDX - 80)(%rdx)
	.irp at, 24, 32, 40, 48, 56, 64, 72
	popq (\at - 80)(%rdx)
	.endr
.if \switched
kelevate_moved:
	ANNOTATE_NOENDBR /* compared with, never jumped to */
	/* nothing on the stack that is left matters from here on */
	movq %rsp, %rcx
	leaq -80(%rdx), %rsp
	/* undo what kelevate_nmi did, unless it was done for this vector, amid the NMI */
	testl $(VECTOR_STACK_SIZE - 1), %ecx
	jnz kelevate_deliver
	movq (VECTOR_STACK_SLOTS - VECTOR_STACK_SIZE)(%rcx), %rax
	movq (VECTOR_STACK_TOPS - VECTOR_STACK_SIZE)(%rcx), %rdx
	movq %rdx, (%rax)
	movq (VECTOR_STACK_TOPS + 8 - VECTOR_STACK_SIZE)(%rcx), %rdx
	movq %rdx, 8(%rax)
.else
	leaq -80(%rdx), %rsp
.endif
	jmp kelevate_deliver

	/* the kernel's own code: where the processor would have put it */
.Lkernel\@:
	cmpl $DEBUG, (AT_VECTOR - 16)(%rsp)
	je .Ldebug\@
.if \switched
	andq $-16, %rdx
	jmp .Lmove\@
.else
	popq %rdx
	pushq %rax
	pushq %rcx
	pushq %rdx
	jmp kelevate_deliver
.endif
.Ldebug\@:
	movq PER_CPU_VAR(kelevate_debug_stack), %rdx
	jmp .Lmove\@

	/* nobody comes here but code that left ring 0 by itself: the kernel sorts it out */
.Lring3\@:
	popq %rdx
	pushq %rax
	pushq %rcx
	pushq %rdx
	movq AT_VECTOR(%rsp), %rcx
	jmp kelevate_hand_over
SYM_CODE_END(\name)
.endm

VECTORS kelevate_vectors, kelevate_common
COMMON kelevate_common, 1
VECTORS kelevate_vectors_in_place, kelevate_common_in_place
COMMON kelevate_common_in_place, 0

/* The frame is on the thread's kernel stack, in the layout above. */
SYM_CODE_START_LOCAL(kelevate_deliver)
	UNWIND_HINT_IRET_REGS offset=AT_RIP
	movq AT_VECTOR(%rsp), %rcx
	cmpq $0, AT_RSP(%rsp)
	js kelevate_of_kernel
	cmpl $PAGE_FAULT, %ecx
	jne .Lnot_fixed

	pushq %rsi
	pushq %rdi
	pushq %r8
	pushq %r9
	pushq %r10
	pushq %r11
	leaq 48 + AT_ERROR(%rsp), %rdi
	call kelevate_fix_fault
	popq %r11
	popq %r10
	popq %r9
	popq %r8
	popq %rdi
	popq %rsi
	movq AT_VECTOR(%rsp), %rcx
	testb %al, %al
	jz .Lnot_fixed
	popq %rdx
	popq %rcx
	popq %rax
	addq $16, %rsp
	iretq

.Lnot_fixed:
	/* kernel code that was called on the user's stack: its fault is the kernel's */
	movq AT_RIP(%rsp), %rax
	testq %rax, %rax
	jns .Luser_code
	andq $-4096, %rax
	cmpq $VSYSCALL_ADDR, %rax
	jne kelevate_of_kernel

.Luser_code:
	movq $__USER_CS, AT_CS(%rsp)
	movq $__USER_DS, AT_SS(%rsp)
	andq $~FLAGS_AC, AT_FLAGS(%rsp)
	cmpl $PAGE_FAULT, %ecx
	jne 1f
	movl PER_CPU_VAR(kelevate_error), %eax
	orq %rax, AT_ERROR(%rsp)
1:	swapgs
	jmp kelevate_hand_over
SYM_CODE_END(kelevate_deliver)

/* rcx: vector.  A debugger steps into kelevate_lower: that is no business of the kernel's. */
SYM_CODE_START_LOCAL(kelevate_of_kernel)
	UNWIND_HINT_IRET_REGS offset=AT_RIP
	cmpl $DEBUG, %ecx
	jne kelevate_hand_over
	movq AT_RIP(%rsp), %rax
	subq $kelevate_lower, %rax
	cmpq $(kelevate_not_stepped - kelevate_lower), %rax
	ja kelevate_hand_over
	movl $DR6_EMPTY, %eax
	movq %rax, %dr6
	popq %rdx
	popq %rcx
	popq %rax
	addq $16, %rsp
	iretq
SYM_CODE_END(kelevate_of_kernel)

/* rcx: vector */
SYM_CODE_START_LOCAL(kelevate_hand_over)
	UNWIND_HINT_IRET_REGS offset=AT_RIP
	leaq kelevate_handlers(%rip), %rax
	movq (%rax, %rcx, 8), %rdx
	cmpl $32, %ecx
	jae 1f
	movl $VECTORS_WITH_ERROR, %eax
	btl %ecx, %eax
	jnc 1f
	movq %rdx, AT_VECTOR(%rsp)
	popq %rdx
	popq %rcx
	popq %rax
	ANNOTATE_UNRET_SAFE
	ret
	int3
1:	movq %rdx, AT_ERROR(%rsp)
	popq %rdx
	popq %rcx
	popq %rax
	leaq 8(%rsp), %rsp
	ANNOTATE_UNRET_SAFE
	ret
	int3
SYM_CODE_END(kelevate_hand_over)

/*
 * A non-maskable interrupt that finds a frame still on a stack of ours may itself fault or hit a
 * breakpoint: those come to lie below.  GS may be the user's or the kernel's here.  One word is
 * free below the frame; the next is where the kernel keeps whether it is in an NMI already.
 */
SYM_CODE_START(kelevate_nmi)
	UNWIND_HINT_IRET_REGS
	endbr64
	cmpq $kelevate_vectors, (%rsp)
	jb 1f
	cmpq $kelevate_moved, (%rsp)
	jae 1f
	pushq %rax
	movq 32(%rsp), %rax
	andq $-VECTOR_STACK_SIZE, %rax
	movq VECTOR_STACK_SLOTS(%rax), %rax
	subq $VECTOR_STACK_SHIFT, (%rax)
	subq $VECTOR_STACK_SHIFT, 8(%rax)
	popq %rax
1:	ANNOTATE_RETPOLINE_SAFE
	jmp *(kelevate_handlers + 2 * 8)(%rip)
SYM_CODE_END(kelevate_nmi)

/* The syscall instruction in ring 0: MSR_LSTAR of elevated threads. */
SYM_CODE_START(kelevate_syscall)
	UNWIND_HINT_IRET_REGS
	endbr64
	andq $~FLAGS_AC, %r11
	swapgs
	ANNOTATE_RETPOLINE_SAFE
	jmp *kelevate_entry_syscall(%rip)
SYM_CODE_END(kelevate_syscall)

/* The kernel returns here, struct pt_regs on its stack, in place of its own way to ring 3. */
SYM_CODE_START(kelevate_to_ring0)
	UNWIND_HINT_REGS
	ANNOTATE_NOENDBR
	movq $__KERNEL_CS, REGS_CS(%rsp)
	movq $__KERNEL_DS, REGS_SS(%rsp)
	movl PER_CPU_VAR(kelevate_exit_flags), %eax
	orq %rax, REGS_FLAGS(%rsp)
	popq %r15
	popq %r14
	popq %r13
	popq %r12
	popq %rbp
	popq %rbx
	popq %r11
	popq %r10
	popq %r9
	popq %r8
	popq %rax
	popq %rcx
	popq %rdx
	popq %rsi
	popq %rdi
	addq $8, %rsp
	iretq
SYM_CODE_END(kelevate_to_ring0)

/*
 * Elevated code calls this as an ordinary function: it returns 0, in ring 3.  The frame is built
 * on the kernel's stack, as the user's may not be there.  Ring 3 gets the flags that came, but for
 * AC; single-stepping (TF) ends here, and goes on there.
 */
SYM_CODE_START(kelevate_lower)
	UNWIND_HINT_IRET_REGS
	endbr64
	xorl %ecx, %ecx
.Lcaller:
	movq (%rsp), %rcx
.Lno_caller:
	_ASM_EXTABLE(.Lcaller, .Lno_caller)
	leaq 8(%rsp), %rdx
	cli
	movq PER_CPU_VAR(kelevate_stack_top), %rsp
	pushq $__USER_DS
	pushq %rdx
	pushfq
	orq $FLAGS_IF, (%rsp)
	andq $~FLAGS_AC, (%rsp)
	pushq $FLAGS_FIXED
	popfq
kelevate_not_stepped:
	pushq $__USER_CS
	pushq %rcx
	pushq $-1
	pushq %rdi
	pushq %rsi
	pushq %rdx
	pushq %rcx
	pushq $0
	pushq %r8
	pushq %r9
	pushq %r10
	pushq %r11
	pushq %rbx
	pushq %rbp
	pushq %r12
	pushq %r13
	pushq %r14
	pushq %r15
	UNWIND_HINT_REGS
	call kelevate_lowered
	ANNOTATE_RETPOLINE_SAFE
	jmp *kelevate_to_ring3(%rip)
SYM_CODE_END(kelevate_lower)
