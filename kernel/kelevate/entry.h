/* SPDX-License-Identifier: GPL-2.0-only */
/* Between entry.S and the C files around it. */
#ifndef KELEVATE_ENTRY_H
#define KELEVATE_ENTRY_H

#define VECTOR_SIZE 16
#define VECTORS_WITH_ERROR 0x60227d00 /* 8, 10-14, 17, 21, 29, 30 */

/* At the low end of each stack that vectors switch to lies struct vector_stack. */
#define VECTOR_STACK_SIZE 8192
#define VECTOR_STACK_SHIFT 1024
#define VECTOR_STACK_SLOTS 0
#define VECTOR_STACK_TOPS 8

#ifndef __ASSEMBLY__
#include <linux/percpu.h>
#include <linux/types.h>

struct vector_stack {
	u64 *slots; /* of the task state segment, two */
	u64 tops[2];
};

/* What the processor pushes for a vector with an error code. */
struct frame {
	unsigned long error, ip, cs, flags, sp, ss;
};

extern char kelevate_vectors[], kelevate_vectors_in_place[], kelevate_nmi[];
extern char kelevate_syscall[], kelevate_to_ring0[], kelevate_lower[];
extern unsigned long kelevate_handlers[256], kelevate_entry_syscall, kelevate_to_ring3;

DECLARE_PER_CPU(unsigned long, kelevate_stack_top);
DECLARE_PER_CPU(unsigned long, kelevate_debug_stack);
DECLARE_PER_CPU(u32, kelevate_error);	   /* bits that a page fault's error code gets */
DECLARE_PER_CPU(u32, kelevate_exit_flags); /* bits that the flags get on the way to ring 0 */

bool kelevate_fix_fault(struct frame *frame);
void kelevate_lowered(void);
unsigned long kelevate_invoke(unsigned long function, const u64 words[6]);
#endif

#endif
