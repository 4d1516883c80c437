// SPDX-License-Identifier: GPL-2.0-only
/* Puts the program, and the files that it needs, where the host says. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "guest.h"

static int file = -1;						   /* the one whose content comes */
static struct timespec written[2] = { { .tv_nsec = UTIME_OMIT } }; /* at its host */

static void make_parent(const char *path)
{
	char parent[4096];
	size_t size = strrchr(path, '/') - path;

	if (size >= sizeof(parent))
		fail("the path is too long: %s", path);
	memcpy(parent, path, size);
	parent[size] = 0;
	if (size && make_folders(parent))
		fail("cannot make the folder %s: %s", parent, strerror(errno));
}

/* The mode and path of a frame, `more` bytes between them; folders on the way are made. */
static const char *placed(const struct frame *frame, uint32_t *mode, size_t more)
{
	const char *path = frame->payload + sizeof(*mode) + more;

	if (frame->head.size <= sizeof(*mode) + more || *path != '/')
		fail("a damaged frame");
	memcpy(mode, frame->payload, sizeof(*mode));
	make_parent(path);
	return path;
}

static void make_folder(const struct frame *frame)
{
	uint32_t mode;
	const char *path = placed(frame, &mode, 0);

	if (make_folders(path) || chmod(path, mode))
		fail("cannot make the folder %s: %s", path, strerror(errno));
}

static void make_file(const struct frame *frame)
{
	uint64_t when;
	uint32_t mode;
	const char *path = placed(frame, &mode, sizeof(when));

	memcpy(&when, frame->payload + sizeof(mode), sizeof(when));
	written[1].tv_sec = when / 1000000000;
	written[1].tv_nsec = when % 1000000000;
	if (unlink(path) && errno != ENOENT)
		fail("cannot replace %s: %s", path, strerror(errno));
	file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (file < 0 || fchmod(file, mode))
		fail("cannot make %s: %s", path, strerror(errno));
}

/* The path, a NUL, what the link says. */
static void make_link(const struct frame *frame)
{
	const char *path = frame->payload, *text = path + strlen(path) + 1;

	if (*path != '/' || text >= path + frame->head.size)
		fail("a damaged frame");
	make_parent(path);
	if (unlink(path) && errno != ENOENT)
		fail("cannot replace %s: %s", path, strerror(errno));
	if (symlink(text, path))
		fail("cannot make the link %s: %s", path, strerror(errno));
}

static void add_content(const struct frame *frame)
{
	size_t at = 0;
	ssize_t done;

	for (; at < frame->head.size; at += done) {
		done = write(file, frame->payload + at, frame->head.size - at);
		if (done < 0)
			fail("the program and its files do not fit: %s", strerror(errno));
	}
}

/* Whether it was a frame for us. */
int take_delivery(const struct frame *frame)
{
	if (frame->head.type == FRAME_CONTENT) {
		add_content(frame);
		return 1;
	}
	if (file >= 0 && (futimens(file, written) || close(file)))
		fail("cannot write a file: %s", strerror(errno));
	file = -1;
	switch (frame->head.type) {
	case FRAME_MAKE_FOLDER:
		make_folder(frame);
		return 1;
	case FRAME_MAKE_FILE:
		make_file(frame);
		return 1;
	case FRAME_MAKE_LINK:
		make_link(frame);
		return 1;
	default:
		return 0;
	}
}
