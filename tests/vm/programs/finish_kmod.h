/* SPDX-License-Identifier: GPL-2.0-only */
/* What of a module the kernel has to finish: finish.c calls, finish_kmod.c is the kernel's side. */
#ifndef FINISH_KMOD_H
#define FINISH_KMOD_H

#ifndef __ASSEMBLY__

/* parameters: finish_kmod.c declares size, flag, label and list */
int param_size(void);
int param_flag(void);
int param_list(int index);
int param_label_is(const char *user, unsigned long size);
int modname_is(const char *user, unsigned long size);

/* static calls, of its own and the kernel's */
int static_call_own(int x);
int static_call_switch(void);
int static_calls_of_kernel(void);

/* tracepoints: of the kernel, with a probe of its own; of its own */
int tracepoint_of_kernel(int probed);
int tracepoint_own(int x);
long sched_switches(int milliseconds);

/* per-CPU data on all CPUs, one of them initialised with an address */
long percpu_everywhere(void);
int percpu_pointer(void);

/* things that run on their own */
int rcu_callback(void);
int srcu_both(void);
long thread_steps(int milliseconds);
long delayed_work(void);
long hrtimer_ticks(int milliseconds);
int kprobe_hits(void);
int start_ticking(void);
long ticks(void);

/* other sources of the same kmod: one exports, one is assembly, one is included */
int through_export(int x);
long sum_in_assembly(long a, long b, long c, long d, long e, long f);
int in_included_source(int x);

/* alternatives and barriers */
int alternatives(void);
int page_cleared(void);

/* in the trace buffer until after the program's end; writes to a constant must fail */
int trace_here(int x);
int constants_are_read_only(void);

void bug_here(int line_to_be_named);
int warn_here(void);

#endif
#endif
