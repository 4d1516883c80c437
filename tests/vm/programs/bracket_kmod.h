/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BRACKET_KMOD_H
#define BRACKET_KMOD_H

long tally(long x);
long tallied(void);
long append(long value);
long take(void);
long list_length(void);
long on_cpu(void);
int protected(void);
int protected_everywhere(void);
long touch(const long *user);
long enter(long (*function)(void));
unsigned long address_of_six(void);
unsigned long kernel_word(unsigned long address);
int interrupt_stacks(void);
int nmi_start(void);
long nmi_send(int cpu, long count);
long nmi_seen(int cpu);
long nmi_faults(void);
void nmi_stop(void);

#endif
