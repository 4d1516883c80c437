/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef TYPES_MACROS_KMOD_H
#define TYPES_MACROS_KMOD_H

/* An open file as struct file has it: its operations differ with what is behind it. */
struct file_answers {
	unsigned long operations, read, write, poll, map; /* addresses; 0: it cannot do that */
	char operations_name[48], read_name[48];
	int opened_for_reading; /* by the macro FMODE_READ */
	int driver_type;	/* of a socket: AF_UNIX ..., found with container_of(); -1: none */
};

/* 0, or -EBADF, -EFAULT */
int ask_file(int fd, struct file_answers *user);

/* What only the kernel's compiler knows: layouts of types, and values of macros. */
struct layout_answers {
	unsigned long size_task, size_file, size_operations;
	unsigned long offset_pid, offset_comm, offset_read;
	unsigned long hz, nr_cpus, thread_size, page_offset, task_comm_len, has_5level;
};

/* 0, or -EFAULT */
int ask_layouts(struct layout_answers *user);

#endif
