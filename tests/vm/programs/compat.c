// SPDX-License-Identifier: GPL-2.0-only
/*
 * A 32-bit (-m32) or x32 (-mx32) program, without a C library: it inherits an open file with a
 * live image, and may neither use it nor open another, by its own system calls and by 64-bit ones.
 * Its exit status names the first check that failed, 0: none.
 */
#include "../../../kernel/kelevate/kelevate.h"

#define EPERM 1
#define ENOTTY 25
#define O_RDWR 2
#define INHERITED 200
/* KELEVATE_LOAD as 64-bit programs have it: the structure's end is not padded here */
#define LOAD64 _IOC(_IOC_WRITE, 0xb8, 0x00, (sizeof(struct kelevate_image) + 7) / 8 * 8)

typedef unsigned long long u64;

static const char device[] = "/dev/kelevate";

#ifdef __ILP32__
#ifdef __i386__ /* -m32 */
enum {
	OPEN = 5,
	LSEEK = 19,
	IOCTL = 54,
	EXIT = 1
};

static long call(long number, long a, long b, long c)
{
	__asm__ volatile("int $0x80" : "+a"(number) : "b"(a), "c"(b), "d"(c) : "memory");
	return number;
}

/*
 * To 64-bit mode and back: the segment is there for every process.  Jumps, as QEMU 7.2 emulates
 * far calls with the kernel's rights, and SMAP stops it.
 */
long native(long number, long a, long low, long high, long c);
__asm__(".text\n"
	"native: push %ebx; push %esi; push %edi\n"
	"	mov 16(%esp), %eax; mov 20(%esp), %edi; mov 24(%esp), %esi\n"
	"	mov 28(%esp), %ecx; mov 32(%esp), %edx\n"
	"	mov $back, %ebx; ljmp $0x33, $1f\n"
	"2:	pop %edi; pop %esi; pop %ebx; ret\n"
	"	.code64\n"
	"1:	mov %edi, %edi; mov %esi, %esi; mov %edx, %edx; shl $32, %rcx; or %rcx, %rsi\n"
	"	syscall\n"
	"	ljmp *(%rbx)\n"
	".section .rodata\n"
	"back:	.long 2b; .word 0x23\n"
	".text\n"
	"	.code32\n");
#else /* -mx32 */
#define X32 0x40000000
enum {
	OPEN = X32 | 2,
	LSEEK = X32 | 8,
	IOCTL = X32 | 514,
	EXIT = X32 | 60
};

static long call(long number, long a, long b, long c)
{
	u64 result = number;

	__asm__ volatile("syscall"
			 : "+a"(result)
			 : "D"((u64)(unsigned long)a), "S"((u64)(unsigned long)b),
			   "d"((u64)(unsigned long)c)
			 : "rcx", "r11", "memory");
	return result;
}

static long native(long number, long a, long low, long high, long c)
{
	u64 result = number, word = (u64)(unsigned long)high << 32 | (unsigned long)low;

	__asm__ volatile("syscall"
			 : "+a"(result)
			 : "D"((u64)(unsigned long)a), "S"(word), "d"((u64)(unsigned long)c)
			 : "rcx", "r11", "memory");
	return result;
}
#endif
#else
#error "for -m32 or -mx32"
#endif

static u64 hex(const char *text)
{
	u64 value = 0;

	for (; *text; text++)
		value = value << 4 | (*text <= '9' ? *text - '0' : *text - 'a' + 10);
	return value;
}

static int tries(u64 gate)
{
	long low = gate, high = gate >> 32;

	if (call(OPEN, (long)device, O_RDWR, 0) != -EPERM)
		return 1;
	if (call(LSEEK, INHERITED, low, KELEVATE_CALL) != -ENOTTY)
		return 2;
	if (call(IOCTL, INHERITED, KELEVATE_LOAD, 0) != -ENOTTY)
		return 3;
	/* by the numbers of 64-bit programs */
	if (native(2, (long)device, O_RDWR, 0, 0) != -EPERM)
		return 4;
	if (native(8, INHERITED, low, high, KELEVATE_CALL) != -EPERM)
		return 5;
	if (native(16, INHERITED, LOAD64, 0, 0) != -EPERM)
		return 6;
	if (native(16, INHERITED, KELEVATE_ATTACH, low, high) != -EPERM)
		return 7;
	return 0;
}

/* argc, then the arguments' addresses, of 4 bytes each, also for x32 */
__attribute__((used)) void begin(const unsigned int *stack)
{
	const char *gate = (const char *)(unsigned long)stack[2];

	call(EXIT, tries(hex(gate)), 0, 0);
}

#ifdef __i386__
__asm__(".globl _start\n_start: mov %esp, %eax; push %eax; call begin\n");
#else
__asm__(".globl _start\n_start: mov %esp, %edi; and $-16, %esp; call begin\n");
#endif
