// SPDX-License-Identifier: GPL-2.0-only
/*
 * Gates under load: many threads at once.  load_ends.c has how processes and threads end.
 *   load machine [full]       the machine protects itself; with "full": pti=on preempt=full
 *   load crowd CALLS LIBRARY  8 threads, two images, signals, moves between CPUs, forks, execs
 *   load first                threads and forks race for the first gate
 *   load blocking             gates that wait for each other, for locks, pipes and files
 *   load turns                threads and a process change one list in turn
 *   load exec                 what "crowd" and "first" have executed: its own instance
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "check.h"
#include "load_kmod.h"

#define THREADS 8
#define EVERY 64 /* calls, between the dearer ones */

static _Atomic int wrong, stop, signals; /* of the threads; check() is for the main one */
static pthread_t thread[THREADS];

static void expect(long got, long wanted)
{
	if (got != wanted) {
		fprintf(stderr, "%ld, not %ld\n", got, wanted);
		wrong++;
	}
}

static void start(void *(*work)(void *))
{
	for (long i = 0; i < THREADS; i++)
		if (pthread_create(&thread[i], NULL, work, (void *)i))
			exit(2);
}

static void join(void)
{
	for (int i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
}

static int status_of(pid_t child)
{
	int status;

	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	return status;
}

/* A timer signal each 2 ms, to whichever thread the kernel chooses; 0 stops it. */
static void signal_each(int microseconds)
{
	struct itimerval every = { { 0, microseconds }, { 0, microseconds } };

	setitimer(ITIMER_REAL, &every, NULL);
}

/* ---- the machine ---- */

static int file_has(const char *path, const char *word)
{
	static char text[1 << 16];
	int fd = open(path, O_RDONLY), got = 0, more;

	while (fd >= 0 && (more = read(fd, text + got, sizeof(text) - 1 - got)) > 0)
		got += more;
	text[got] = 0;
	close(fd);
	return strstr(text, word) != NULL;
}

static void *spin(void *unused)
{
	while (!stop)
		;
	return unused;
}

/* By number, as the thread may have ended; 0: the calling one. */
static void pin(pid_t to, int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(to, sizeof(set), &set);
}

/* Whether another thread had the CPU while a gate computed: preempt=full lets it. */
static int gate_is_preempted(void)
{
	pthread_t other;

	pin(0, 0); /* which the other inherits */
	pthread_create(&other, NULL, spin, NULL);
	usleep(10000);
	busy_until(500);
	stop = 1;
	pthread_join(other, NULL);
	return was_preempted() > 0;
}

static void machine(int full)
{
	check("SMEP", file_has("/proc/cpuinfo", " smep"), 1);
	check("SMAP", file_has("/proc/cpuinfo", " smap"), 1);
	check("KASLR", has_kaslr(), 1);
	check("CPUs", sysconf(_SC_NPROCESSORS_ONLN), 2);
	check("page-table isolation", file_has("/proc/cpuinfo", " pti"), full);
	check("preempt=full", file_has("/sys/kernel/debug/sched/preempt", "(full)"), full);
	check("a gate is preempted", gate_is_preempted(), full);
}

/* ---- the crowd ---- */

static long calls;	      /* of each thread */
static long gates_in_handler; /* of tally(), as those of children and of threads are counted */
static long gates_in_children;
static _Atomic pid_t numbers[THREADS];
static long (*other)(long), (*others)(void), (*address)(void);

static void on_signal(int unused)
{
	signals++;
	expect(tally(7), 22); /* during or between the gates of the thread that it came upon */
	__atomic_add_fetch(&gates_in_handler, 1, __ATOMIC_RELAXED);
}

static void *crowd_worker(void *number)
{
	long me = (long)number, where = address();

	numbers[me] = gettid();
	for (long i = 0; i < calls; i++) {
		expect(tally(i), 3 * i + 1);
		if (i % EVERY)
			continue;
		count();
		expect(append(i), 0);
		expect(other(i), 5 * i + 2);
		expect(call_other(where, i), 5 * i + 2);
		expect(take() >= 0, 1);
		if (i / EVERY % 8 == 0)
			pin(0, (i / EVERY / 8 + me) & 1);
	}
	return NULL;
}

/* Moves threads that are in gates. */
static void *crowd_mover(void *unused)
{
	for (int i = 0; !stop; i++) {
		pin(numbers[i % THREADS], i / THREADS & 1);
		usleep(1000);
	}
	return unused;
}

static void *crowd_forker(void *unused)
{
	for (int i = 0; !stop; i++) {
		pid_t child = fork();

		if (!child && i & 1)
			execl("/proc/self/exe", "load", "exec", NULL);
		if (!child) {
			int bad = 0;

			for (long k = 0; k < 10; k++)
				bad |= tally(k) != 3 * k + 1;
			_exit(bad);
		}
		expect(status_of(child), 0);
		if (!(i & 1))
			gates_in_children += 10;
		usleep(5000);
	}
	return unused;
}

static int load_library(const char *path)
{
	void *library = dlopen(path, RTLD_NOW);

	if (!library) {
		puts(dlerror());
		return -1;
	}
	other = (long (*)(long))dlsym(library, "other");
	others = (long (*)(void))dlsym(library, "others");
	address = (long (*)(void))dlsym(library, "address");
	return 0;
}

static void crowd(long all, const char *library)
{
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	pthread_t mover, forker;
	long rare;

	if (load_library(library))
		exit(2);
	calls = all / THREADS;
	rare = THREADS * ((calls + EVERY - 1) / EVERY);
	sigaction(SIGALRM, &action, NULL);
	count();
	signal_each(2000);
	start(crowd_worker);
	pthread_create(&mover, NULL, crowd_mover, NULL);
	pthread_create(&forker, NULL, crowd_forker, NULL);
	join();
	stop = 1;
	pthread_join(mover, NULL);
	pthread_join(forker, NULL);
	signal_each(0);
	check("results", wrong, 0);
	check("each gate ran once", tallied() - gates_in_handler - gates_in_children,
	      THREADS * calls);
	check("mutex", count(), rare + 2);
	check("the other image's", others(), 2 * rare);
	check("list", list_length(), 0);
	check("signals came", signals > 100, 1);
	check("children", gates_in_children > 0, 1);
	printf("     %ld gates of threads, %ld of handlers, %ld of children\n", THREADS * calls,
	       gates_in_handler, gates_in_children);
}

/* ---- the first gate ---- */

static pthread_barrier_t together;
static int seen[THREADS + 1];

static void *first_worker(void *number)
{
	long mine;
	pid_t child;

	pthread_barrier_wait(&together);
	if ((long)number % 4 == 1) {
		child = fork(); /* from before, amid or after the set-up */
		if (!child)
			_exit(tally(1) != 4);
		expect(status_of(child), 0);
	}
	mine = count();
	if (mine < 1 || mine > THREADS || __atomic_add_fetch(&seen[mine], 1, __ATOMIC_RELAXED) > 1)
		wrong++;
	return NULL;
}

/* In a process that has none yet. */
static int one_first(void)
{
	pthread_barrier_init(&together, NULL, THREADS);
	start(first_worker);
	join();
	return wrong != 0;
}

static void first(void)
{
	for (int i = 0; i < 10; i++) {
		pid_t child = fork();

		if (!child)
			_exit(one_first());
		wrong += status_of(child) != 0;
	}
	check("one instance for those who come first", wrong, 0);
}

/* ---- gates that wait ---- */

static int ends[2];

static void *blocking_worker(void *number)
{
	long me = (long)number, got;
	char byte;

	for (int i = 0; i < 10; i++) {
		slept_until(5);
		hold(2);
		expect(through_file(me, 1000 * me + i), 1000 * me + i);
		if (me & 1) {
			expect(wake(), 0);
			expect(write(ends[1], "x", 1), 1);
		} else {
			expect(await(), 0);
			do
				got = read_fd(ends[0], &byte, 1);
			while (got == -512); /* -ERESTARTSYS: a signal came, and no byte */
			expect(got, 1);
			expect(byte, 'x');
		}
	}
	return NULL;
}

static void *late_writer(void *unused)
{
	usleep(200000);
	expect(write(ends[1], "y", 1), 1);
	return unused;
}

static void blocking(void)
{
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	pthread_t writer;
	char byte = 0;

	if (pipe(ends))
		exit(2);
	pthread_create(&writer, NULL, late_writer, NULL);
	check("a gate waits for a pipe", read_fd(ends[0], &byte, 1), 1);
	check("its byte", byte, 'y');
	pthread_join(writer, NULL);
	sigaction(SIGALRM, &action, NULL);
	signal_each(2000);
	start(blocking_worker);
	join();
	signal_each(0);
	check("sleeps, locks, files, pipes, completions", wrong, 0);
	check("signals came", signals > 10, 1);
	check("sleeps begun", stays().begun, 2 * THREADS * 10);
	check("sleeps ended", stays().ended, THREADS * 10); /* hold() counts its beginnings only */
}

/* ---- in turn ---- */

#define TURNS 400
#define KEPT 10 /* nodes in the list */

static long *turn;

static void take_turns(int me)
{
	while (*turn < TURNS) {
		long now = __atomic_load_n(turn, __ATOMIC_ACQUIRE);

		if (now >= TURNS || now % (THREADS + 1) != me) {
			usleep(100);
			continue;
		}
		expect(append(now), 0);
		if (now >= KEPT)
			expect(take(), now - KEPT);
		expect(list_length(), now < KEPT ? now + 1 : KEPT);
		__atomic_store_n(turn, now + 1, __ATOMIC_RELEASE);
	}
}

static void *turn_worker(void *number)
{
	take_turns((long)number);
	return NULL;
}

static void turns(void)
{
	pid_t child;

	turn = mmap(NULL, sizeof(*turn), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	count(); /* else the child would have an instance of its own */
	child = fork();
	if (!child) {
		take_turns(THREADS);
		_exit(wrong);
	}
	start(turn_worker);
	join();
	check("a process's turns", status_of(child), 0);
	check("threads' turns", wrong, 0);
	check("list", list_length(), KEPT);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!strcmp(what, "machine"))
		machine(argc > 2);
	else if (!strcmp(what, "crowd") && argc > 3)
		crowd(atol(argv[2]), argv[3]);
	else if (!strcmp(what, "first"))
		first();
	else if (!strcmp(what, "blocking"))
		blocking();
	else if (!strcmp(what, "turns"))
		turns();
	else if (!strcmp(what, "exec"))
		return count() != 1 || tallied() != 0;
	else
		return 2;
	return failures != 0;
}
