/* SPDX-License-Identifier: GPL-2.0-only */
/* samples/fd_info in assembly: asks the kernel for the position of a file. */

#define INFO_PID	0		/* struct fd_info, at the stack pointer */
#define INFO_POSITION	8
#define TEXT_SIZE	15

	.section .rodata
text:	.ascii	"Hello, kernel!\n"
format:	.asciz	"the kernel says: pid %d (getpid() says %d), file position %lld of fd %d\n"
what:	.asciz	"fd_info"

	.data
path:	.asciz	"/tmp/fd_info.XXXXXX"

	.text
	.globl	main
	.type	main, @function
main:
	push	%rbx			/* the file */
	push	%rbp			/* what getpid() says */
	sub	$24, %rsp		/* struct fd_info; the stack is now aligned for calls */

	lea	path(%rip), %rdi
	call	mkstemp@PLT
	mov	%eax, %ebx
	test	%eax, %eax
	js	failed
	lea	path(%rip), %rdi
	call	unlink@PLT
	mov	%ebx, %edi
	lea	text(%rip), %rsi
	mov	$TEXT_SIZE, %edx
	call	write@PLT
	cmp	$TEXT_SIZE, %rax
	jne	failed

	mov	%ebx, %edi
	mov	%rsp, %rsi
	call	fd_info@PLT		/* a gate: an ordinary C call */
	test	%eax, %eax
	jnz	refused

	call	getpid@PLT
	mov	%eax, %ebp
	lea	format(%rip), %rdi
	mov	INFO_PID(%rsp), %esi
	mov	%ebp, %edx
	mov	INFO_POSITION(%rsp), %rcx
	mov	%ebx, %r8d
	xor	%eax, %eax		/* no vector registers among printf's words */
	call	printf@PLT

	xor	%eax, %eax
	cmp	%ebp, INFO_PID(%rsp)
	jne	1f
	cmpq	$TEXT_SIZE, INFO_POSITION(%rsp)
	je	2f
1:	mov	$1, %eax
2:	add	$24, %rsp
	pop	%rbp
	pop	%rbx
	ret

refused:
	neg	%eax
	mov	%eax, %ebx
	call	__errno_location@PLT
	mov	%ebx, (%rax)
failed:
	lea	what(%rip), %rdi
	call	perror@PLT
	jmp	1b
	.size	main, . - main

	.section .note.GNU-stack, "", @progbits
