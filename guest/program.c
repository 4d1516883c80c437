// SPDX-License-Identifier: GPL-2.0-only
/*
 * Runs the program that the host describes, and relays its streams: three pipes on one side,
 * frames with a window for each stream on the other.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <kelevate.h>
#include "guest.h"

#define CHUNK 65536

struct words {
	char **word;
	size_t count;
};

/* What the host wants run. */
static struct {
	char *path;
	char *folder;
	struct words arguments;
	struct words environment;
	struct kelevate_elevation elevation; /* flags 0: it runs as ever */
} order;

/* Of the file through which the program was elevated, or -1. */
static int elevated = -1;

/* The program's standard input: what has come for it and is not yet in its pipe. */
static struct {
	int fd; /* -1 when closed */
	char data[WINDOW];
	size_t start, end;
	int ended;
} input = { .fd = -1 };

/* Its standard output and error. */
static struct output {
	int fd;	       /* -1 when closed */
	size_t credit; /* bytes that the host is ready to take */
	int last;      /* bytes still to come when the program has ended, -1 before */
} outputs[3] = { [1] = { .fd = -1 }, [2] = { .fd = -1 } };

static pid_t program = -1;
static int program_status;
static int program_ended;

/* ---- the order ---- */

static char *copy_of(const struct frame *frame)
{
	char *copy = malloc(frame->head.size + 1);

	if (!copy)
		fail("out of memory");
	memcpy(copy, frame->payload, frame->head.size);
	copy[frame->head.size] = 0;
	return copy;
}

/* Always with a NULL behind the last word. */
static void add_word(struct words *words, char *word)
{
	words->word = realloc(words->word, (words->count + 2) * sizeof(char *));
	if (!words->word)
		fail("out of memory");
	if (word)
		words->word[words->count++] = word;
	words->word[words->count] = NULL;
}

/* Take the order in; 1 when it is whole. */
static int take_order(const struct frame *frame)
{
	if (take_delivery(frame))
		return 0;
	switch (frame->head.type) {
	case FRAME_WAKE:
		wake_up(frame);
		break;
	case FRAME_PROGRAM:
		order.path = copy_of(frame);
		break;
	case FRAME_FOLDER:
		order.folder = copy_of(frame);
		break;
	case FRAME_ARGUMENT:
		add_word(&order.arguments, copy_of(frame));
		break;
	case FRAME_VARIABLE:
		add_word(&order.environment, copy_of(frame));
		break;
	case FRAME_ELEVATE:
		if (frame->head.size != sizeof(order.elevation))
			fail("a damaged frame");
		memcpy(&order.elevation, frame->payload, sizeof(order.elevation));
		break;
	case FRAME_START:
		if (!order.path || !order.folder || !order.arguments.count)
			fail("the host names no program");
		add_word(&order.environment, NULL);
		return 1;
	default:
		fail("a frame of type %u before the program", frame->head.type);
	}
	return 0;
}

static void wait_for_order(void)
{
	struct pollfd one;
	struct frame frame;

	for (;;) {
		while (channel_next(&frame))
			if (take_order(&frame))
				return;
		channel_prepare(&one);
		if (poll(&one, 1, -1) > 0)
			channel_move(one.revents);
	}
}

/* ---- start ---- */

/* Tell why there is no program: `stage` is added, so that the reader knows which step failed. */
static noreturn void give_up(int report, int stage)
{
	int k = errno + stage;

	if (write(report, &k, sizeof(k)) < 0)
		_exit(125);
	_exit(127);
}

#define NOT_ELEVATED 1000 /* above every errno */

static noreturn void become_program(int pipes[3][2], int report)
{
	sigset_t none;
	int k;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	setsid();
	for (k = 0; k < 3; k++)
		dup2(pipes[k][k ? 1 : 0], k);
	if (elevated >= 0 && ioctl(elevated, KELEVATE_ELEVATE, &order.elevation))
		give_up(report, NOT_ELEVATED);
	execve(order.path, order.arguments.word, order.environment.word);
	give_up(report, 0);
}

static void prepare_elevation(void)
{
	if (!order.elevation.flags)
		return;
	elevated = open("/dev/kelevate", O_RDWR | O_CLOEXEC);
	if (elevated < 0)
		fail("cannot elevate: /dev/kelevate: %s", strerror(errno));
}

static void report_counts(void)
{
	struct kelevate_counts counts;

	if (elevated < 0)
		return;
	if (ioctl(elevated, KELEVATE_COUNT, &counts))
		warn("no counts of the elevated program: %s", strerror(errno));
	else
		channel_send(FRAME_COUNTS, 0, &counts, sizeof(counts));
	close(elevated);
}

static void keep_ends(int pipes[3][2])
{
	int k;

	for (k = 0; k < 3; k++) {
		close(pipes[k][k ? 1 : 0]);
		fcntl(pipes[k][k ? 0 : 1], F_SETFL, O_NONBLOCK);
	}
	input.fd = pipes[0][1];
	for (k = 1; k < 3; k++) {
		outputs[k].fd = pipes[k][0];
		outputs[k].credit = WINDOW;
		outputs[k].last = -1;
	}
}

/* Start the program: 0, or the errno with which execve refused it. */
static int start_program(void)
{
	int pipes[3][2], report[2], k, refused = 0;

	for (k = 0; k < 3; k++)
		if (pipe2(pipes[k], O_CLOEXEC))
			fail("no pipes: %s", strerror(errno));
	if (pipe2(report, O_CLOEXEC))
		fail("no pipes: %s", strerror(errno));
	if (make_folders(order.folder) || chdir(order.folder))
		fail("cannot enter the working folder %s: %s", order.folder, strerror(errno));
	prepare_elevation();
	program = fork();
	if (program < 0)
		fail("cannot fork: %s", strerror(errno));
	if (!program)
		become_program(pipes, report[1]);
	close(report[1]);
	if (read(report[0], &refused, sizeof(refused)) != sizeof(refused))
		refused = 0;
	close(report[0]);
	if (refused > NOT_ELEVATED)
		fail("cannot elevate: %s; the kernel's messages say why",
		     strerror(refused - NOT_ELEVATED));
	keep_ends(pipes);
	return refused;
}

/* ---- standard input ---- */

static void close_input(void)
{
	if (input.fd < 0)
		return;
	close(input.fd);
	input.fd = -1;
	channel_send(FRAME_CLOSE, 0, NULL, 0);
}

static void take_input(const char *data, size_t size)
{
	if (input.fd < 0)
		return; /* sent before the host knew that nobody reads any more */
	if (input.start) {
		memmove(input.data, input.data + input.start, input.end - input.start);
		input.end -= input.start;
		input.start = 0;
	}
	if (size > sizeof(input.data) - input.end)
		fail("the host sends more standard input than the window allows");
	memcpy(input.data + input.end, data, size);
	input.end += size;
}

static void move_input(void)
{
	ssize_t done;

	if (input.fd < 0)
		return;
	if (input.start < input.end) {
		done = write(input.fd, input.data + input.start, input.end - input.start);
		if (done > 0) {
			input.start += done;
			channel_send_u32(FRAME_CREDIT, 0, done);
		} else if (errno != EAGAIN && errno != EINTR) {
			close_input(); /* the program has closed its end */
			return;
		}
	}
	if (input.ended && input.start == input.end)
		close_input();
}

/* ---- standard output and error ---- */

static void close_output(int stream)
{
	close(outputs[stream].fd);
	outputs[stream].fd = -1;
	channel_send(FRAME_CLOSE, stream, NULL, 0);
}

static void move_output(int stream)
{
	static char data[CHUNK];
	struct output *output = &outputs[stream];
	size_t most = output->credit < sizeof(data) ? output->credit : sizeof(data);
	ssize_t done;

	if (output->last >= 0 && (size_t)output->last < most)
		most = output->last;
	if (output->fd < 0)
		return;
	if (most) {
		done = read(output->fd, data, most);
		if (done < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (done <= 0) {
			close_output(stream);
			return;
		}
		channel_send(FRAME_DATA, stream, data, done);
		output->credit -= done;
		if (output->last >= 0)
			output->last -= done;
	}
	if (!output->last)
		close_output(stream);
}

/* ---- the end ---- */

/*
 * What the program wrote is in the pipes when it has ended; later bytes are an orphan's, and are
 * not waited for.
 */
static void limit_outputs(void)
{
	int k;

	for (k = 1; k < 3; k++) {
		if (outputs[k].fd < 0)
			continue;
		if (ioctl(outputs[k].fd, FIONREAD, &outputs[k].last))
			outputs[k].last = 0;
		move_output(k);
	}
}

static void reap(int signals)
{
	struct signalfd_siginfo info;
	int status;
	pid_t pid;

	if (read(signals, &info, sizeof(info)) < 0 && errno != EAGAIN)
		warn("no news of ended processes: %s", strerror(errno));
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid != program)
			continue;
		program_ended = 1;
		program_status = status;
		close_input();
		limit_outputs();
	}
}

/* ---- the relay ---- */

static void obey(const struct frame *frame)
{
	int stream = frame->head.stream;
	uint32_t bytes;

	if (stream > 2)
		fail("a frame for stream %d", stream);
	switch (frame->head.type) {
	case FRAME_DATA:
		take_input(frame->payload, frame->head.size);
		break;
	case FRAME_CLOSE:
		if (!stream)
			input.ended = 1;
		else if (outputs[stream].fd >= 0)
			close_output(stream); /* the program gets SIGPIPE, as anywhere */
		break;
	case FRAME_CREDIT:
		if (frame->head.size != sizeof(bytes))
			fail("a damaged frame");
		memcpy(&bytes, frame->payload, sizeof(bytes));
		outputs[stream].credit += bytes;
		break;
	default:
		fail("a frame of type %u for the running program", frame->head.type);
	}
}

static void wait_for_something(int signals)
{
	struct pollfd polls[5];
	int k;

	channel_prepare(&polls[0]);
	polls[1] = (struct pollfd){ .fd = signals, .events = POLLIN };
	polls[2] = (struct pollfd){ .fd = input.fd };
	if (input.start < input.end)
		polls[2].events = POLLOUT;
	for (k = 1; k < 3; k++)
		polls[2 + k] = (struct pollfd){ .fd = outputs[k].credit ? outputs[k].fd : -1,
						.events = POLLIN };
	if (poll(polls, 5, -1) <= 0)
		return;
	channel_move(polls[0].revents);
	if (polls[2].revents & POLLERR)
		close_input();
	for (k = 1; k < 3; k++)
		if (polls[2 + k].revents)
			move_output(k);
	if (polls[1].revents)
		reap(signals);
}

static int open_signals(void)
{
	sigset_t wanted;
	int fd;

	sigemptyset(&wanted);
	sigaddset(&wanted, SIGCHLD);
	sigprocmask(SIG_BLOCK, &wanted, NULL);
	fd = signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		fail("no signalfd: %s", strerror(errno));
	return fd;
}

/* Run the program to its end and report it. */
int run_program(void)
{
	int signals = open_signals(), refused;
	struct frame frame;

	wait_for_order();
	load_program_modules();
	refused = start_program();
	if (refused) {
		channel_send_u32(FRAME_NOT_STARTED, 0, refused);
		return -1;
	}
	for (;;) {
		/* before waiting: frames may have come along with the order */
		while (channel_next(&frame))
			obey(&frame);
		move_input();
		if (program_ended && outputs[1].fd < 0 && outputs[2].fd < 0)
			break;
		wait_for_something(signals);
	}
	report_counts();
	channel_send_u32(FRAME_EXIT, 0, program_status);
	return 0;
}
