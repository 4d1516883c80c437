/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef FUNCTIONS_KMOD_H
#define FUNCTIONS_KMOD_H

/* What inline functions of the kernel's headers say of an open file and of its process. */
struct inline_answers {
	unsigned long inode;
	long long size; /* bytes */
	long holders;	/* of the open file, for instance by dup(); this call is one */
	int pid, parent;
	unsigned int uid;
};

/* 0, or -EBADF, -EFAULT */
int ask_inline_functions(int fd, struct inline_answers *user);

/* Standalone functions; the kernel exports none of these three to modules. */
unsigned long ask_kallsyms_lookup_name(const char *name); /* 0: no such symbol; or -EFAULT */
unsigned long long ask_nr_context_switches(void);
int ask_nr_processes(void);

#endif
