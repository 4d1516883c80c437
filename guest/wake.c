// SPDX-License-Identifier: GPL-2.0-only
/*
 * A machine that went on from a saved state has an old clock, and the random numbers that every
 * other run from that state would have.  The host gives both anew, before any program starts; a
 * machine that has just booted gets them just the same.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>
#include "guest.h"

#define SEED 64 /* bytes */

struct wake {
	uint64_t nanoseconds; /* since 1970 */
	char seed[SEED];
};

struct entropy {
	struct rand_pool_info head; /* which ends with the seed */
	char seed[SEED];
};

static void set_clock(uint64_t nanoseconds)
{
	const struct timespec now = { .tv_sec = nanoseconds / 1000000000,
				      .tv_nsec = nanoseconds % 1000000000 };

	if (clock_settime(CLOCK_REALTIME, &now))
		fail("cannot set the clock: %s", strerror(errno));
}

static void reseed(const char *seed)
{
	struct entropy entropy = { .head = { .entropy_count = 8 * SEED, .buf_size = SEED } };
	int fd = open("/dev/urandom", O_RDWR | O_CLOEXEC);

	memcpy(entropy.seed, seed, SEED);
	if (fd < 0 || ioctl(fd, RNDADDENTROPY, &entropy) || ioctl(fd, RNDRESEEDCRNG))
		fail("cannot reseed the random generator: %s", strerror(errno));
	close(fd);
}

void wake_up(const struct frame *frame)
{
	struct wake wake;

	if (frame->head.size != sizeof(wake))
		fail("a damaged frame");
	memcpy(&wake, frame->payload, sizeof(wake));
	set_clock(wake.nanoseconds);
	reseed(wake.seed);
	channel_send_u32(FRAME_READY, 0, PROTOCOL_VERSION);
}
