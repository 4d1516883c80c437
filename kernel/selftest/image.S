/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * An image of five functions, which kelevate copies into the kernel, and the way into them.
 * To the program the image is data: nothing of it runs in ring 3.
 */

	.macro FUNCTION name
	.globl \name
	.type \name, @function
\name:
	endbr64
	.endm

	/* writable, so that the instance can be mapped over it; kelevate reads it only */
	.section .data.image, "aw"
	.balign 4096
	.globl image
image:

/* unsigned long add(unsigned long a, unsigned long b) */
FUNCTION image_add
	leaq (%rdi, %rsi), %rax
	ret

/* unsigned long count(void) */
FUNCTION image_count
	movl $1, %eax
	lock xaddq %rax, image_counter(%rip)
	incq %rax
	ret

/* unsigned long seventh(six words, unsigned long s) */
FUNCTION image_seventh
	movq 8(%rsp), %rax
	ret

/* void *where(void): the kernel address of add() */
FUNCTION image_where
	leaq image_add(%rip), %rax
	ret

/* int fails(void): a module_init() that returns -ENODEV */
FUNCTION image_fails
	movl $-19, %eax
	ret

	.balign 4096, 0xcc
	.asciz "read-only data"
	.balign 4096
	.globl image_counter, image_pointer
image_counter:
	.quad 0
image_pointer:
	.quad 0 /* a relocation record makes it the counter's address */
	.balign 4096

/* void raw_gate(int fd, unsigned long which, const unsigned long words[7], struct answer *) */
	.text
	.globl raw_gate
	.type raw_gate, @function
raw_gate:
	endbr64
	pushq %rbx
	pushq %rbp
	pushq %r12
	pushq %r13
	subq $40, %rsp
	movq %rcx, %r13
	/* ring 3, the words as kelevate.h has them: six in registers, the seventh on the stack */
	movq 48(%rdx), %rax
	movq %rax, 32(%rsp)
	movq 0(%rdx), %rbx
	movq 8(%rdx), %rbp
	movq 16(%rdx), %r12
	movq 24(%rdx), %r10
	movq 32(%rdx), %r8
	movq 40(%rdx), %r9
	movl $3, %edx /* KELEVATE_CALL */
	movl $8, %eax /* lseek */
	syscall
	movq %rax, 0(%r13)
	movq %rdi, 8(%r13)
	movq %rdx, 16(%r13)
	movq %rsi, 24(%r13)
	addq $40, %rsp
	popq %r13
	popq %r12
	popq %rbp
	popq %rbx
	ret
	.size raw_gate, . - raw_gate

	.section .note.GNU-stack, "", @progbits
