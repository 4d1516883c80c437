// SPDX-License-Identifier: GPL-2.0-only
/*
 * The channel to the host: frames over a virtio-serial port.  Both ends always take what comes;
 * what holds a stream back is its window, not the port.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "guest.h"

#define PORTS "/sys/class/virtio-ports"
#define PORT_NAME "kbridge"
#define PATIENCE_MS 10000 /* for the host to plug the port in */

static int port = -1;

static struct {
	char *data;
	size_t start, end, room;
} out;

static struct {
	char data[sizeof(struct frame_header) + MAX_PAYLOAD + 1];
	size_t start, end;
	int held_at; /* where a NUL replaces a byte of the next frame, or -1 */
	char held;
} in = { .held_at = -1 };

static int is_ours(const char *name)
{
	char path[sizeof(PORTS) + 300], *content;
	size_t size;
	int ours;

	snprintf(path, sizeof(path), PORTS "/%s/name", name);
	content = read_file(path, 256, &size);
	ours = content && !strncmp(content, PORT_NAME "\n", sizeof(PORT_NAME));
	free(content);
	return ours;
}

static int find_port(char *path, size_t room)
{
	DIR *ports = opendir(PORTS);
	struct dirent *entry;
	int found = 0;

	while (ports && !found && (entry = readdir(ports))) {
		found = entry->d_name[0] != '.' && is_ours(entry->d_name);
		if (found)
			snprintf(path, room, "/dev/%.200s", entry->d_name);
	}
	if (ports)
		closedir(ports);
	return found;
}

int channel_open(void)
{
	const struct timespec pause = { .tv_nsec = 5 * 1000 * 1000 };
	char path[256];
	int waited;

	for (waited = 0; waited < PATIENCE_MS; waited += 5) {
		if (find_port(path, sizeof(path))) {
			port = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
			if (port >= 0)
				return 0;
		}
		nanosleep(&pause, NULL);
	}
	return -1;
}

static void put(const void *data, size_t size)
{
	if (out.start == out.end)
		out.start = out.end = 0;
	if (out.end + size > out.room) {
		out.room = 2 * (out.end + size);
		out.data = realloc(out.data, out.room);
		if (!out.data)
			power_off();
	}
	if (size)
		memcpy(out.data + out.end, data, size);
	out.end += size;
}

void channel_send(enum frame_type type, int stream, const void *data, size_t size)
{
	struct frame_header head = { .type = type, .stream = stream, .size = size };

	if (port < 0)
		return;
	put(&head, sizeof(head));
	put(data, size);
}

void channel_send_u32(enum frame_type type, int stream, uint32_t value)
{
	channel_send(type, stream, &value, sizeof(value));
}

static void write_some(void)
{
	ssize_t done;

	while (out.start < out.end) {
		done = write(port, out.data + out.start, out.end - out.start);
		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0 && errno != EAGAIN)
			power_off(); /* the host has unplugged the port */
		if (done <= 0)
			return;
		out.start += done;
	}
}

static void read_some(void)
{
	ssize_t done;

	if (in.held_at >= 0) {
		in.data[in.held_at] = in.held;
		in.held_at = -1;
	}
	memmove(in.data, in.data + in.start, in.end - in.start);
	in.end -= in.start;
	in.start = 0;
	done = read(port, in.data + in.end, sizeof(in.data) - 1 - in.end);
	if (done > 0)
		in.end += done;
	else if (!done || (errno != EAGAIN && errno != EINTR))
		power_off(); /* nobody is there any more for whom to run */
}

/* What to wait for. */
void channel_prepare(struct pollfd *poll)
{
	poll->fd = port;
	poll->events = POLLIN | (out.start < out.end ? POLLOUT : 0);
}

/* Move what can be moved without waiting. */
void channel_move(short events)
{
	if (events & POLLIN)
		read_some();
	else if (events & (POLLHUP | POLLERR))
		power_off();
	write_some();
}

/* Write out all that was sent. */
void channel_flush(void)
{
	struct pollfd one = { .fd = port, .events = POLLOUT };

	if (port < 0)
		return;
	for (write_some(); out.start < out.end; write_some())
		poll(&one, 1, -1);
}

/* The next whole frame, valid until the next call: 1, or 0 when there is none yet. */
int channel_next(struct frame *frame)
{
	size_t have;

	if (in.held_at >= 0) {
		in.data[in.held_at] = in.held;
		in.held_at = -1;
	}
	have = in.end - in.start;
	if (have < sizeof(frame->head))
		return 0;
	memcpy(&frame->head, in.data + in.start, sizeof(frame->head));
	if (frame->head.size > MAX_PAYLOAD)
		fail("a frame of %u bytes from the host", frame->head.size);
	if (have < sizeof(frame->head) + frame->head.size)
		return 0;
	frame->payload = in.data + in.start + sizeof(frame->head);
	in.start += sizeof(frame->head) + frame->head.size;
	in.held_at = in.start;
	in.held = in.data[in.start];
	in.data[in.start] = 0;
	return 1;
}

/* Everything has been said: wait for the host to unplug the port, then power off. */
void channel_close(void)
{
	struct pollfd one = { .fd = port };
	struct frame frame;
	int patience;

	channel_flush();
	for (patience = 0; port >= 0 && patience < 1000; patience++) {
		one.events = POLLIN;
		if (poll(&one, 1, 10) > 0)
			channel_move(one.revents); /* powers off at the end */
		while (channel_next(&frame))
			;
	}
	power_off();
}
