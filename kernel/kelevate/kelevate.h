/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * The interface of /dev/kelevate, shared by the module, libkbridge and the generated gates.
 *
 * An open file of the device is one instance of one image: the kernel-style part (kmod) of a
 * program or library.  Forked children share it, exec drops it, the last close frees it.
 */
#ifndef KELEVATE_H
#define KELEVATE_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define KELEVATE_ABI 6

/*
 * KELEVATE_LOAD (struct kelevate_image *): give the image a home in the module area, finish it
 * as the kernel finishes a module, run its module_init().  Once per file; again: 0, nothing done.
 * Errors: EINVAL (malformed image, or a parameter's value), EPROTO (made for another
 * KELEVATE_ABI), ENOENT (a module that it needs is not loaded), ENOEXEC (a relocation does not
 * fit), ESTALE (the import words are of another boot), ENOTTY (the file holds another image),
 * EEXIST (the range at `content` is an instance already: KELEVATE_ATTACH), EPERM, ENOMEM, EFAULT.
 */
#define KELEVATE_LOAD _IOW(0xb8, 0x00, struct kelevate_image)

/*
 * lseek(fd, the image's `content` address << 4 | index, KELEVATE_CALL): gate number `index`.  It
 * has little more than half of an ioctl()'s way through the kernel.  The number is SEEK_DATA: of a
 * file that is none of ours, it moves nothing, as no file has data that far out.  The words travel
 * in registers that a system call keeps:
 *   rbx rbp r12 r10 r8 r9   the six words of the x86-64 calling convention, in its order
 *   rsp + 32                further words, as many as the image's gate table says
 * When the call took place rdi is KELEVATE_DONE, rdx and rsi are the function's rax and rdx, and
 * rax is 0, which can never be taken for -ERESTARTSYS.
 * Errors: ENOTTY (the file does not hold this image), ERANGE (it has no such gate), EPERM, EFAULT,
 * ENOMEM; of a file that is none of ours, any.
 *
 * The gate of module_init() tells what it returned at KELEVATE_LOAD; it is not run again.  When
 * that was negative, every other gate fails with ECANCELED.
 */
#define KELEVATE_CALL 3
#define KELEVATE_DONE 0x6b622121

/*
 * KELEVATE_ATTACH (an address in a mapping of an instance): let this file, which has none, hold
 * that instance too; for a program that closed every file it had.
 * Errors: ENOENT (no instance is mapped there), ENOTTY (the file holds another one).
 */
#define KELEVATE_ATTACH _IO(0xb8, 0x02)

/*
 * KELEVATE_ELEVATE (struct kelevate_elevation *): user code of the calling thread runs in ring 0
 * from when the call returns; with KELEVATE_PROGRAM, from the next exec on.  Children run in ring
 * 3, and so does what an exec starts, but for KELEVATE_PROGRAM and KELEVATE_INHERIT.
 * Errors: EPERM, EOPNOTSUPP (not on this machine, or not for this program: the kernel log says
 * why), EBUSY (elevated in another way), EINVAL, ENOMEM, EFAULT.
 */
#define KELEVATE_ELEVATE _IOWR(0xb8, 0x03, struct kelevate_elevation)

/*
 * The number of no system call: in a thread that was elevated before it elevates again, and is
 * cheaper than the ioctl.  -ENOSYS: ask by KELEVATE_ELEVATE.
 */
#define KELEVATE_AGAIN 0x6b62

#define KELEVATE_PROGRAM (1u << 0) /* a whole program, with its threads */
#define KELEVATE_INHERIT (1u << 1) /* and the processes that it starts */
#define KELEVATE_ELEVATION_FLAGS 3u

/* What a kernel that knows no user code in ring 0 needs for it (adapt_*.c). */
#define KELEVATE_ADAPT_STACK (1u << 0)
#define KELEVATE_ADAPT_FAULT (1u << 1)
#define KELEVATE_ADAPT_SYSCALL (1u << 2)
#define KELEVATE_ADAPT_SMEP (1u << 3)
#define KELEVATE_ADAPT_SMAP (1u << 4)
#define KELEVATE_ADAPT_PTI (1u << 5)
#define KELEVATE_ADAPT_IBT (1u << 6)
#define KELEVATE_ADAPT_THREADS (1u << 7)
#define KELEVATE_ADAPTORS 0xffu

struct kelevate_elevation {
	__u32 flags;   /* KELEVATE_PROGRAM, KELEVATE_INHERIT */
	__u32 without; /* adaptors to leave out, to see what they prevent */
	__u64 lower;   /* out: function for elevated code to call: 0, in ring 3 */
};

/*
 * KELEVATE_INVOKE (struct kelevate_invocation *): call a kernel function on the thread's kernel
 * stack.  Errors: EPERM, EINVAL (not in the kernel's half), EFAULT.
 */
#define KELEVATE_INVOKE _IOWR(0xb8, 0x04, struct kelevate_invocation)

struct kelevate_invocation {
	__u64 function; /* address */
	__u64 words[6];
	__u64 result; /* out */
};

/* KELEVATE_COUNT: of the program that was elevated through this file.  Errors: ENODATA, EFAULT. */
#define KELEVATE_COUNT _IOR(0xb8, 0x05, struct kelevate_counts)

/* Where timer interrupts found its threads. */
enum kelevate_tick {
	KELEVATE_TICK_RING0, /* user code in ring 0 */
	KELEVATE_TICK_RING3, /* user code in ring 3 */
	KELEVATE_TICK_KERNEL,
	KELEVATE_TICKS,
};

struct kelevate_counts {
	__u64 ticks[KELEVATE_TICKS];
	__u64 threads; /* that were elevated */
};

/* Stack words that a gate can carry beside the six in registers. */
#define KELEVATE_MAX_STACK_WORDS 256
#define KELEVATE_MAX_IMAGE (64u << 20) /* bytes */

/*
 * The kernel may call the image's functions by itself, later (timers, work, threads): without a
 * module_exit() it is never freed.
 */
#define KELEVATE_CALLED_BACK 1
/*
 * The import words are addresses that the kernel is linked for, of a linker script: kelevate adds
 * the KASLR slide.  Else ld.so took them from libkernel.so, and they have to be this boot's.
 */
#define KELEVATE_LINKED 2

#define KELEVATE_MAX_ARGS 4096 /* bytes */

/*
 * Special sections that the kernel's own functions finish, each a range of the image.  The order
 * is ABI; a range of size 0 is not there.
 */
enum kelevate_table {
	KELEVATE_BUG_TABLE,
	KELEVATE_EX_TABLE,
	KELEVATE_JUMP_TABLE,
	KELEVATE_STATIC_CALL_SITES,
	KELEVATE_ALTINSTRUCTIONS,
	KELEVATE_PARAINSTRUCTIONS,
	KELEVATE_RETPOLINE_SITES,
	KELEVATE_RETURN_SITES,
	KELEVATE_CALL_SITES,
	KELEVATE_ORC_UNWIND,
	KELEVATE_ORC_UNWIND_IP,
	KELEVATE_PARAM,
	KELEVATE_SRCU_STRUCT_PTRS,
	KELEVATE_TRACE_PRINTK_FMT,
	KELEVATE_TABLES,
};

struct kelevate_range {
	__u32 offset; /* bytes from the image's start */
	__u32 size;   /* bytes */
};

struct kelevate_gate {
	__u32 offset;	   /* of the function, from the image's start */
	__u32 stack_words; /* words passed on the stack */
};

/*
 * What a relocation record (struct elf64_rela, x86-64 psABI types) may be relative to: the symbol
 * index of r_info.  KELEVATE_SYM_IMPORT + n is import word n.
 */
enum kelevate_symbol {
	KELEVATE_SYM_IMAGE,
	KELEVATE_SYM_PERCPU, /* the instance's per-CPU area */
	KELEVATE_SYM_MODULE, /* the instance's struct module: __this_module */
	KELEVATE_SYM_ABS,    /* zero */
	KELEVATE_SYM_IMPORT,
};

/* All pointers are user addresses; all sizes and offsets are bytes. */
struct kelevate_image {
	__u32 abi;  /* KELEVATE_ABI */
	__u32 size; /* of this structure */
	char name[48];
	__u64 content;	    /* text | read-only data | data, each part page-aligned */
	__u64 imports;	    /* __u64[nimports], filled by the dynamic linker */
	__u64 import_names; /* nimports strings: NAME, or NAME [MODULE] that kelevate looks up */
	__u64 records;	    /* struct elf64_rela[nrecords] */
	__u64 gates;	    /* struct kelevate_gate[ngates] */
	__u64 tables;	    /* struct kelevate_range[KELEVATE_TABLES] */
	__u64 symbols;	    /* struct elf64_sym[nsymbols], the first one null */
	__u64 strings;	    /* names of the symbols */
	__u64 args;	    /* module parameters as insmod takes them, NUL-terminated; 0: none */
	__u64 text_base;    /* what the import words take as address of _text */
	__u32 text_end, rodata_end, end;
	__u32 nimports, nrecords, ngates, nsymbols;
	__u32 import_names_size, strings_size;
	__u32 percpu, percpu_size, percpu_align; /* initial values of the per-CPU data: a range */
	__u32 init, exit; /* offsets + 1 of module_init() and module_exit(), 0: none */
	__u32 flags;	  /* KELEVATE_CALLED_BACK, KELEVATE_LINKED */
};

#endif
