/* SPDX-License-Identifier: GPL-2.0-only */
/* samples/cr3 in assembly: prints CR3, and the privilege level on both sides. */

	.section .rodata
levels:	.asciz	"privilege level: app %d, kmod %d\n"
value:	.asciz	"CR3 = %#lx\n"

	.text
	.globl	main
	.type	main, @function
main:
	push	%rbx			/* the stack is now aligned for calls */
	call	privilege_level@PLT	/* a gate: an ordinary C call */
	mov	%eax, %ebx
	mov	%eax, %edx
	mov	%cs, %esi
	and	$3, %esi
	lea	levels(%rip), %rdi
	xor	%eax, %eax		/* no vector registers among printf's words */
	call	printf@PLT

	call	cr3@PLT
	mov	%rax, %rsi
	test	%rax, %rax
	sete	%al
	or	%al, %bl
	lea	value(%rip), %rdi
	xor	%eax, %eax
	call	printf@PLT

	mov	%ebx, %eax		/* 0: level 0, and a register that is not 0 */
	pop	%rbx
	ret
	.size	main, . - main

	.section .note.GNU-stack, "", @progbits
