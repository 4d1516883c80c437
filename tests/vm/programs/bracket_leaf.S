/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * long leaf(long loops): how often a word of the red zone or a register was not what it had been
 * set to.  Every register but rdi (loops left), rax and rsp has a value of its own; rcx has 1.
 */
	.text
	.globl leaf
	.type leaf, @function
leaf:
	pushq %rbx
	pushq %rbp
	pushq %r12
	pushq %r13
	pushq %r14
	pushq %r15
	.irp k, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16
	movq $(0x11110000 + \k), -8 * \k(%rsp)
	.endr
	movl $1, %ecx
	movl $0x7102, %edx
	movl $0x7103, %esi
	movl $0x7104, %ebx
	movl $0x7105, %ebp
	movl $0x7108, %r8d
	movl $0x7109, %r9d
	movl $0x710a, %r10d
	movl $0x710b, %r11d
	movl $0x710c, %r12d
	movl $0x710d, %r13d
	movl $0x710e, %r14d
	movl $0x710f, %r15d
	movq %rdx, %xmm7
	xorl %eax, %eax
1:
	.irp k, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16
	cmpq $(0x11110000 + \k), -8 * \k(%rsp)
	jne 2f
	.endr
	cmpq $1, %rcx
	jne 2f
	cmpq $0x7102, %rdx
	jne 2f
	cmpq $0x7103, %rsi
	jne 2f
	cmpq $0x7104, %rbx
	jne 2f
	cmpq $0x7105, %rbp
	jne 2f
	cmpq $0x7108, %r8
	jne 2f
	cmpq $0x7109, %r9
	jne 2f
	cmpq $0x710a, %r10
	jne 2f
	cmpq $0x710b, %r11
	jne 2f
	cmpq $0x710c, %r12
	jne 2f
	cmpq $0x710d, %r13
	jne 2f
	cmpq $0x710e, %r14
	jne 2f
	cmpq $0x710f, %r15
	jne 2f
	movq %xmm7, %rdx
	cmpq $0x7102, %rdx
	jne 2f
	decq %rdi
	jnz 1b
	jmp 3f
2:
	incl %eax
	decq %rdi
	jnz 1b
3:
	popq %r15
	popq %r14
	popq %r13
	popq %r12
	popq %rbp
	popq %rbx
	ret
	.size leaf, . - leaf
	.section .note.GNU-stack, "", @progbits
