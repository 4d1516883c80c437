// SPDX-License-Identifier: GPL-2.0-only
/* The app's side: libc, a file, and one call into the kernel, which is an ordinary C call. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <unistd.h>
#include "fd_info_kmod.h"

#define SYSLOG_ACTION_READ_ALL 3

/* The last line of the kernel log that has `what` in it. */
static void print_log_line(const char *what)
{
	static char log[1 << 18];
	char *found = NULL, *next = log;
	int size = klogctl(SYSLOG_ACTION_READ_ALL, log, sizeof(log) - 1);

	if (size < 0) {
		perror("klogctl");
		return;
	}
	log[size] = 0;
	while ((next = strstr(next, what))) {
		found = next;
		next++;
	}
	if (found)
		printf("the kernel log says: %.*s\n", (int)strcspn(found, "\n"), found);
}

int main(void)
{
	char path[] = "/tmp/fd_info.XXXXXX";
	struct fd_info info;
	int fd = mkstemp(path), err;

	if (fd < 0 || write(fd, "Hello, kernel!\n", 15) != 15) {
		perror(path);
		return 1;
	}
	unlink(path);
	err = fd_info(fd, &info);
	if (err) {
		fprintf(stderr, "fd_info: %s\n", strerror(-err));
		return 1;
	}
	printf("the kernel says: pid %d (getpid() says %d), file position %lld of fd %d\n",
	       info.pid, getpid(), info.position, fd);
	print_log_line("For pid");
	return info.pid == getpid() && info.position == 15 ? 0 : 1;
}
