/* SPDX-License-Identifier: GPL-2.0-only */
/* Threads whose user code runs in ring 0: thread.c and the adaptors. */
#ifndef KELEVATE_ELEVATION_H
#define KELEVATE_ELEVATION_H

#include <linux/llist.h>
#include <linux/percpu.h>
#include <linux/preempt.h>
#include <linux/refcount.h>
#include <asm/desc.h>
#include "kelevate.h"

/* What a program's threads have in common; or a bracket's one thread. */
struct elevation {
	refcount_t users; /* threads, and the file that asked for it */
	u32 flags;	  /* KELEVATE_PROGRAM and others */
	u32 adaptors;	  /* those in use: those that this machine needs, but for ones left out */
	atomic64_t ticks[KELEVATE_TICKS];
	atomic64_t threads;
};

/* thread.c, or no_elevation.c for kernels without the hooks */
long elevate(struct elevation **program, struct kelevate_elevation __user *arg);
void put_elevation(struct elevation *e);
void elevation_exit(void);

#ifdef HAVE_ELEVATION

struct frame; /* entry.h */

struct thread {
	struct preempt_notifier notifier;
	struct task_struct *task;
	struct elevation *elevation;
	const struct cred *cred; /* that were looked at, held */
	u64 exec;		 /* which program of the process asked */
	bool want;		 /* user code is to run in ring 0 */
	bool up;		 /* it does: this CPU is set up for it while the thread is on it */
	struct llist_node ended;
};

DECLARE_PER_CPU(struct thread *, kelevate_thread); /* on this CPU, or NULL */

static inline bool uses(const struct thread *t, u32 adaptor)
{
	return t->elevation->adaptors & adaptor;
}

struct thread *new_thread(struct task_struct *task, struct elevation *e, gfp_t gfp);

/* vectors.c: the alternate interrupt descriptor table */
int vectors_init(void);
void vectors_exit(void);
void vectors_load(const struct thread *t);
void vectors_unload(void);
extern gate_desc *kelevate_tables[2]; /* without and with KELEVATE_ADAPT_STACK */

static inline bool vectors_are_loaded(const struct thread *t)
{
	struct desc_ptr idt;

	store_idt(&idt);
	return idt.address == (unsigned long)kelevate_tables[uses(t, KELEVATE_ADAPT_STACK)];
}

/*
 * adapt_*.c, one adaptor each: what a kernel that knows no elevated user code needs for it.
 * needs_*: does this machine need it?  up and down: on this CPU, interrupts off.  fix: a page
 * fault that only this adaptor explains is mended, the instruction can be tried again.
 */
bool needs_smep(void);
void smep_up(void);
void smep_out(void);
bool fix_smep(const struct frame *frame);

bool needs_smap(void);
void smap_up(bool on);
bool fix_smap(struct frame *frame);

bool needs_pti(void);
bool fix_pti(const struct frame *frame, unsigned long address);

bool needs_ibt(void);
void ibt_up(void);
void ibt_down(void);

void syscall_start(void);
void syscall_up(void);
void syscall_down(void);

void fault_up(bool on);

int threads_attach(void);
void threads_detach(void);

/* ticks.c */
int ticks_attach(void);
void ticks_detach(void);

#endif /* HAVE_ELEVATION */

#endif
