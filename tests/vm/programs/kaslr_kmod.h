/* SPDX-License-Identifier: GPL-2.0-only */
/* The same kmod twice: in the program, and (LATER) in a library that it loads at run time. */
#ifndef KASLR_KMOD_H
#define KASLR_KMOD_H

#ifdef LATER
#define GATE(name) later_##name
#else
#define GATE(name) name
#endif

#define MANY_NAMES 64

/* what the kmod sees as the addresses of kaslr.def, in its order; the number of them */
int GATE(addresses)(unsigned long *user, int from_code);
/* text from kernel data: 0 linux_banner, 1 init_task.comm, 2 the same by a pointer into it */
int GATE(text)(int which, char *user, unsigned long size);
/* calls through function pointers that are initialised data; negative: which one is wrong */
int GATE(pointers)(void);
/* per-CPU variables, the kernel's and the kmod's own, on this CPU; negative: which one is wrong */
int GATE(percpu)(int cpu, int pid);

#endif
