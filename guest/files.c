// SPDX-License-Identifier: GPL-2.0-only
/* Whole files in and out of memory. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "guest.h"

/* Up to `limit` bytes of a file, with a NUL behind them, to be freed; NULL and errno if not. */
char *read_file(const char *path, size_t limit, size_t *size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), saved;
	char *data = fd < 0 ? NULL : malloc(limit + 1);
	ssize_t done = 1;

	for (*size = 0; data && done > 0 && *size < limit; *size += done > 0 ? done : 0)
		done = read(fd, data + *size, limit - *size);
	if (data && done < 0) {
		saved = errno;
		free(data);
		data = NULL;
		errno = saved;
	}
	if (data)
		data[*size] = 0;
	if (fd >= 0)
		close(fd);
	return data;
}

int write_file(const char *path, const void *data, size_t size, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
	size_t at = 0;
	ssize_t done = 0;

	if (fd < 0)
		return -1;
	for (; at < size && done >= 0; at += done > 0 ? done : 0)
		done = write(fd, (const char *)data + at, size - at);
	if (close(fd) || done < 0)
		return -1;
	return 0;
}

/* Write one of the kernel's settings under /proc or /sys. */
int set_value(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t done;

	if (fd < 0)
		return -1;
	done = write(fd, value, strlen(value));
	close(fd);
	return done < 0 ? -1 : 0;
}

/* A folder and those above it, as mkdir -p. */
int make_folders(const char *path)
{
	char *copy = strdup(path), *slash;
	int err;

	if (!copy)
		return -1;
	for (slash = strchr(copy + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = 0;
		mkdir(copy, 0755);
		*slash = '/';
	}
	err = mkdir(copy, 0755);
	free(copy);
	return err && errno != EEXIST ? -1 : 0;
}
