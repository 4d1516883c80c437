/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KBRIDGE_GUEST_H
#define KBRIDGE_GUEST_H

#include <stdint.h>
#include <stddef.h>
#include <stdnoreturn.h>
#include <poll.h>
#include <sys/types.h>

/*
 * The frames on the channel; kbridge/vm/protocol.py is the other end and has the same list.  A
 * frame is a header (little endian) and `size` bytes.
 */
#define PROTOCOL_VERSION 2
#define MAX_PAYLOAD (256 * 1024)
#define WINDOW (256 * 1024) /* bytes of a stream that may be on their way */

enum frame_type {
	/* guest to host */
	FRAME_HELLO = 1,       /* u32 version: booted; nothing is done before FRAME_WAKE */
	FRAME_WARNING = 2,     /* text */
	FRAME_FAILED = 3,      /* text: the guest cannot do its work */
	FRAME_NOT_STARTED = 4, /* u32 errno of execve */
	FRAME_EXIT = 5,	       /* u32 wait status of the program */
	FRAME_COUNTS = 6,      /* struct kelevate_counts, before FRAME_EXIT */
	FRAME_READY = 7,       /* u32 version: awake, ready for the program */
	/* host to guest: the program to run */
	FRAME_PROGRAM = 16,  /* path */
	FRAME_FOLDER = 17,   /* working folder */
	FRAME_ARGUMENT = 18, /* one word, argv[0] first */
	FRAME_VARIABLE = 19, /* NAME=VALUE */
	FRAME_START = 20,
	FRAME_ELEVATE = 21, /* struct kelevate_elevation: run it in ring 0 */
	/* before it: */
	FRAME_WAKE = 22,	/* u64 nanoseconds since 1970, 64 random bytes */
	FRAME_MAKE_FOLDER = 23, /* u32 mode, path */
	FRAME_MAKE_FILE = 24,	/* u32 mode, u64 mtime in ns, path; its content follows */
	FRAME_MAKE_LINK = 25,	/* path, NUL, text */
	FRAME_CONTENT = 26,	/* bytes */
	/* both ways; `stream` is 0, 1 or 2 */
	FRAME_DATA = 32,
	FRAME_CLOSE = 33,  /* no more data comes, or no more is taken */
	FRAME_CREDIT = 34, /* u32 bytes that were taken */
};

struct frame_header {
	uint8_t type;
	uint8_t stream;
	uint16_t zero;
	uint32_t size;
};

struct frame {
	struct frame_header head;
	const char *payload; /* followed by a NUL that is not part of it */
};

/* channel.c */
int channel_open(void);
void channel_send(enum frame_type type, int stream, const void *data, size_t size);
void channel_send_u32(enum frame_type type, int stream, uint32_t value);
void channel_flush(void);
void channel_prepare(struct pollfd *poll);
void channel_move(short events);
int channel_next(struct frame *frame);
noreturn void channel_close(void);

/* files.c */
char *read_file(const char *path, size_t limit, size_t *size);
int write_file(const char *path, const void *data, size_t size, mode_t mode);
int set_value(const char *path, const char *value);
int make_folders(const char *path);

/* mounts.c */
void change_root(void);
void change_root_to_share(const char *tag, const char *folder, const char *place);
void set_up_system(void);
void set_up_loopback(void);

/* libkernel.c */
int make_libkernel(const char *from, const char *to);

/* wake.c */
void wake_up(const struct frame *frame);

/* delivery.c */
int take_delivery(const struct frame *frame);

/* program.c */
int run_program(void);

/* init.c */
void load_program_modules(void);
noreturn void power_off(void);
void warn(const char *format, ...) __attribute__((format(printf, 1, 2)));
noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
