// SPDX-License-Identifier: GPL-2.0-only
/* Shows open files of several kinds as struct file has them, and what types and macros are. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>
#include "types_macros_kmod.h"

static int print_file(const char *what, int fd)
{
	struct file_answers a;

	if (fd < 0 || ask_file(fd, &a)) {
		perror(what);
		return 1;
	}
	printf("%-10s f_op %016lx %-28s read %016lx %-16s %s%s%s%s", what, a.operations,
	       a.operations_name, a.read, a.read ? a.read_name : "-",
	       a.opened_for_reading ? "r" : "-", a.write ? "w" : "-", a.poll ? "p" : "-",
	       a.map ? "m" : "-");
	if (a.driver_type >= 0)
		printf(" family %d", a.driver_type);
	putchar('\n');
	return 0;
}

static int print_files(void)
{
	int pipes[2], sockets[2];

	if (pipe(pipes) || socketpair(AF_UNIX, SOCK_STREAM, 0, sockets)) {
		perror("types_macros");
		return 1;
	}
	return print_file("/dev/null", open("/dev/null", O_WRONLY)) |
	       print_file("/dev/zero", open("/dev/zero", O_RDONLY)) |
	       print_file("folder", open("/", O_RDONLY)) | print_file("pipe", pipes[0]) |
	       print_file("socket", sockets[0]) |
	       print_file("/proc file", open("/proc/self/maps", O_RDONLY));
}

int main(void)
{
	struct layout_answers a;

	if (print_files() || ask_layouts(&a))
		return 1;
	printf("sizeof(struct task_struct)                      %lu\n", a.size_task);
	printf("offsetof(struct task_struct, pid)               %lu\n", a.offset_pid);
	printf("offsetof(struct task_struct, comm)              %lu\n", a.offset_comm);
	printf("sizeof(struct file)                             %lu\n", a.size_file);
	printf("sizeof(struct file_operations)                  %lu\n", a.size_operations);
	printf("offsetof(struct file_operations, read_iter)     %lu\n", a.offset_read);
	printf("HZ                                              %lu\n", a.hz);
	printf("NR_CPUS                                         %lu\n", a.nr_cpus);
	printf("THREAD_SIZE                                     %lu\n", a.thread_size);
	printf("TASK_COMM_LEN                                   %lu\n", a.task_comm_len);
	printf("IS_ENABLED(CONFIG_X86_5LEVEL)                   %lu\n", a.has_5level);
	printf("PAGE_OFFSET                                     %#lx\n", a.page_offset);
	return 0;
}
