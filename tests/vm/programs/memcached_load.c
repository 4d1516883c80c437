// SPDX-License-Identifier: GPL-2.0-only
/* memcached_load PORT N: sets and gets N values, each checked, over one connection. */
#include <arpa/inet.h>
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static FILE *in, *out;

static void expect(const char *wanted)
{
	char line[512];

	if (!fgets(line, sizeof(line), in))
		errx(1, "no answer");
	if (strcmp(line, wanted))
		errx(1, "%s instead of %s", line, wanted);
}

static int connected(int port)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port) };
	int tries, s;

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	for (tries = 0; tries < 100; tries++) {
		s = socket(AF_INET, SOCK_STREAM, 0);
		if (!connect(s, (struct sockaddr *)&to, sizeof(to)))
			return s;
		close(s);
		usleep(100000);
	}
	err(1, "no server at port %d", port);
}

int main(int argc, char **argv)
{
	int count = argc > 2 ? atoi(argv[2]) : 0, s, k;
	char line[64];

	s = connected(argc > 1 ? atoi(argv[1]) : 11211);
	in = fdopen(s, "r");
	out = fdopen(dup(s), "w");
	for (k = 0; k < count; k++) {
		fprintf(out, "set key%d 0 0 9\r\nvalue%04d\r\nget key%d\r\n", k, k % 10000, k);
		fflush(out);
		expect("STORED\r\n");
		snprintf(line, sizeof(line), "VALUE key%d 0 9\r\n", k);
		expect(line);
		snprintf(line, sizeof(line), "value%04d\r\n", k % 10000);
		expect(line);
		expect("END\r\n");
	}
	printf("values %d\n", count);
	return 0;
}
