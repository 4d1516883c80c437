// SPDX-License-Identifier: GPL-2.0-only
/*
 * How signals, threads and processes end while gates run.
 *   load_ends signals         delivered after the gate, and gates in their handlers
 *   load_ends killed          SIGKILL: the gate ends, then the program
 *   load_ends exits           other threads end, the process ends, another program is executed
 *   load_ends forks           a child goes on when its parent has exited
 *   load_ends programs COUNT  that many in turn leave no kernel memory behind
 *   load_ends storm COUNT     that many, killed at any moment, leave none either
 *   load_ends once            one gate, which is its instance's first
 */
#define _GNU_SOURCE
#include <errno.h>
#include <glob.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "check.h"
#include "load_kmod.h"

static long now(void)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	return at.tv_sec * 1000000000 + at.tv_nsec;
}

static int status_of(pid_t child)
{
	int status;

	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	return status;
}

static void *shared_page(void)
{
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		exit(2);
	return page;
}

/* Until one more thread is in a gate that stays. */
static void until_begun(int before)
{
	while (stays().begun == before)
		usleep(1000);
}

/* ---- signals ---- */

static volatile long handled_at;
static volatile int depth, handled;

static void on_alarm(int unused)
{
	handled_at = now();
}

static void alarm_in(int milliseconds)
{
	struct itimerval once = { { 0, 0 }, { 0, 1000 * milliseconds } };

	setitimer(ITIMER_REAL, &once, NULL);
}

static void delivered_after(const char *what, long (*gate)(int))
{
	long began, ended;
	int tries = 10;

	do { /* on a busy machine, the alarm may be over before the gate begins */
		began = now();
		handled_at = 0;
		alarm_in(50);
		ended = gate(300);
	} while (--tries && (!was_pending() || now() - handled_at >= 1000000000));
	printf("     %s:\n", what);
	check("the signal came during the gate", was_pending(), 1);
	check("which it did not shorten", ended - began >= 300000000, 1);
	check("and was delivered after it", handled_at >= ended, 1);
	check("before anything else", now() - handled_at < 1000000000, 1);
}

/* Each comes upon the gate of the one before, whose result is still to be read. */
static void on_nested(int number)
{
	int mine = ++depth;

	if (mine < 50 && signal_self(number, mine) != 3 * mine + 1)
		failures++;
	handled++;
}

static void signal_checks(void)
{
	struct sigaction nested = { .sa_handler = on_nested, .sa_flags = SA_NODEFER };
	struct sigaction after = { .sa_handler = on_alarm };

	sigaction(SIGALRM, &after, NULL);
	sigaction(SIGUSR1, &nested, NULL);
	count();
	delivered_after("asleep", slept_until);
	delivered_after("on the CPU", busy_until);
	check("a gate below fifty others", signal_self(SIGUSR1, 1000), 3001);
	check("all of them", handled, 50);
	check("each ran once", tallied(), 50);
}

/* ---- SIGKILL ---- */

static void killed_in(const char *what, long (*gate)(int))
{
	struct stays before = stays();
	volatile int *went_on = shared_page();
	long ended, died;
	pid_t child;
	int status;

	fflush(stdout);
	child = fork();
	if (!child) {
		gate(400);
		*went_on = 1;
		_exit(0);
	}
	until_begun(before.begun);
	ended = now() + 300000000; /* at the earliest, with room for a slow machine */
	kill(child, SIGKILL);
	status = status_of(child);
	died = now();
	printf("     %s:\n", what);
	check("killed", WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, 1);
	check("the kill came during the gate", was_pending(), 1);
	check("the gate ran to its end", stays().ended, before.ended + 1);
	check("not before its time", died >= ended - 100000000, 1);
	check("nothing after it", *went_on, 0);
}

static void killed(void)
{
	count();
	killed_in("asleep", slept_until);
	killed_in("on the CPU", busy_until);
	check("the instance goes on", count(), 2);
}

/* ---- threads ---- */

static void *in_gate(void *milliseconds)
{
	slept_until((long)milliseconds);
	return NULL;
}

static pthread_t one_in_gate(long milliseconds)
{
	int before = stays().begun;
	pthread_t thread;

	pthread_create(&thread, NULL, in_gate, (void *)milliseconds);
	until_begun(before);
	return thread;
}

static volatile int cleaned;

static void clean(void *unused)
{
	cleaned = 1;
}

/* Unwound from the gate's system call on, by call frame information: -fexceptions. */
static void *cancelled(void *unused)
{
	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
	pthread_cleanup_push(clean, NULL);
	slept_until(200);
	for (;;)
		pause();
	pthread_cleanup_pop(0);
	return unused;
}

static void cancels(void)
{
	struct stays before = stays();
	pthread_t thread;
	void *result;

	pthread_create(&thread, NULL, cancelled, NULL);
	until_begun(before.begun);
	pthread_cancel(thread);
	pthread_join(thread, &result);
	check("cancelled during a gate", result == PTHREAD_CANCELED && cleaned, 1);
	check("when the gate had ended", stays().ended, before.ended + 1);
}

/* Shares its parent's memory, not its files. */
static void borrows(void)
{
	long before = count();
	pid_t child = vfork();

	if (!child) {
		count();
		closefrom(3);
		_exit(count() == before + 2 ? 0 : 1);
	}
	check("child of vfork()", status_of(child), 0);
	check("its gates were counted", count(), before + 3);
}

static void *short_one(void *unused)
{
	count();
	return unused;
}

static void *ends_process(void *unused)
{
	usleep(50000);
	_exit(7);
	return unused;
}

static void *runs_atexit(void *unused)
{
	usleep(50000);
	exit(8); /* which lets go of the file, while another thread makes gates */
	return unused;
}

static void *executes(void *unused)
{
	usleep(50000);
	execl("/proc/self/exe", "load_ends", "once", NULL);
	return unused;
}

static void *outlives_main(void *unused)
{
	usleep(100000);
	_exit(count() > 0 ? 9 : 1);
	return unused;
}

/* The status of a child, of which one thread is in a gate while another does that. */
static int while_in_gate(void *(*what)(void *))
{
	pid_t child;

	fflush(stdout);
	child = fork();
	if (!child) {
		pthread_t other;

		one_in_gate(300);
		pthread_create(&other, NULL, what, NULL);
		if (what == outlives_main)
			syscall(SYS_exit, 0);
		for (;;)
			if (what == runs_atexit)
				count();
			else
				pause();
	}
	return status_of(child);
}

static void exits(void)
{
	pthread_t thread, other;
	long before = count();

	thread = one_in_gate(300);
	for (int i = 0; i < 20; i++) {
		pthread_create(&other, NULL, short_one, NULL);
		pthread_join(other, NULL);
	}
	check("threads that end beside a gate", count(), before + 21);
	check("the gate goes on", stays().ended, 0);
	pthread_join(thread, NULL);
	check("to its end", stays().ended, 1);
	check("the process ends", while_in_gate(ends_process), 7 << 8);
	check("when the gate has", stays().ended, 2);
	check("exit() while gates are made", while_in_gate(runs_atexit), 8 << 8);
	check("when the gate has", stays().ended, 3);
	check("exec during a gate", while_in_gate(executes), 0);
	check("when the gate has", stays().ended, 4);
	check("the first thread ends", while_in_gate(outlives_main), 9 << 8);
	check("when the gate has", stays().ended, 5);
	cancels();
	borrows();
	check("the instance goes on", count() > before + 21, 1);
}

/* ---- processes ---- */

static int instances(void)
{
	glob_t found;
	int count = glob("/sys/module/kb:load_ends-*", 0, NULL, &found) ? 0 : found.gl_pathc;

	globfree(&found);
	return count;
}

struct family {
	long before, parent, after;
	int parent_is_gone, instances;
	pid_t child;
};

static void child_of_parent(struct family *family, pid_t parent)
{
	family->before = count();
	__atomic_store_n(&family->child, getpid(), __ATOMIC_RELEASE);
	while (getppid() == parent)
		usleep(1000);
	family->parent_is_gone = kill(parent, 0) == 0 || errno == ESRCH;
	usleep(50000);
	family->instances = instances();
	family->after = count();
	_exit(tally(1) == 4 ? 0 : 1);
}

static void parent_of_child(struct family *family)
{
	pid_t me = getpid();

	count();
	if (!fork())
		child_of_parent(family, me);
	while (!__atomic_load_n(&family->child, __ATOMIC_ACQUIRE))
		usleep(1000);
	family->parent = count();
	_exit(0);
}

static void forks(void)
{
	struct family *family = shared_page();
	pid_t parent;

	prctl(PR_SET_CHILD_SUBREAPER, 1);
	check("no instance", instances(), 0);
	for (int i = 0; i < 10; i++) {
		memset(family, 0, sizeof(*family));
		fflush(stdout);
		parent = fork();
		if (!parent)
			parent_of_child(family);
		check("parent", status_of(parent), 0);
		check("child", status_of(family->child), 0);
		check("the child's gate", family->before, 2);
		check("the parent's", family->parent, 3);
		check("one instance when the parent has exited", family->instances, 1);
		check("the child's gate after that", family->after, 4);
		check("gone with the child", instances(), 0);
	}
}

/* ---- memory ---- */

struct lines {
	char *line[8192];
	int count;
};

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The kernel keeps some threads' stacks; ranges that it has yet to unmap belong to nobody. */
static int is_of_interest(const char *line)
{
	static const char *const others[] = { "dup_task_struct", "kernel_clone", "unpurged" };

	for (int i = 0; i < 3; i++)
		if (strstr(line, others[i]))
			return 0;
	return 1;
}

/* Sizes and callers of /proc/vmallocinfo, sorted. */
static void read_vmallocinfo(struct lines *lines)
{
	FILE *file = fopen("/proc/vmallocinfo", "r");
	char line[512];

	lines->count = 0;
	while (file && fgets(line, sizeof(line), file)) {
		const char *rest = strchr(line, ' ');

		if (rest && is_of_interest(rest) && lines->count < 8192)
			lines->line[lines->count++] = strdup(rest);
	}
	if (file)
		fclose(file);
	qsort(lines->line, lines->count, sizeof(char *), compare);
}

static int differences(const struct lines *a, const struct lines *b)
{
	int i = 0, k = 0, found = 0;

	while (i < a->count || k < b->count) {
		int order = i == a->count   ? 1
			    : k == b->count ? -1
					    : compare(&a->line[i], &b->line[k]);

		if (order)
			printf("     %c%s", order < 0 ? '-' : '+',
			       order < 0 ? a->line[i] : b->line[k]);
		found += order != 0;
		i += order <= 0;
		k += order >= 0;
	}
	return found;
}

static int run_once(void)
{
	pid_t child;

	fflush(stdout);
	child = fork();
	if (!child) {
		execl("/proc/self/exe", "load_ends", "once", NULL);
		_exit(2);
	}
	return status_of(child);
}

static void programs(int number)
{
	static struct lines before, during, after;
	int bad = 0;

	run_once();
	read_vmallocinfo(&before);
	for (int i = 0; i < number; i++)
		bad += run_once() != 0;
	read_vmallocinfo(&after);
	check("programs", bad, 0);
	check("/proc/vmallocinfo is read", before.count > 20, 1);
	check("as it was", differences(&before, &after), 0);
	check("no instance", instances(), 0);
	count();
	read_vmallocinfo(&during);
	check("an instance is seen there", during.count > after.count, 1);
}

static void *never_ends(void *unused)
{
	for (;;) {
		count();
		append(1);
		slept_until(1);
		take();
	}
	return unused;
}

/* The first gate of a program takes some 50 ms under emulation: many are killed during it. */
static int killed_after(int microseconds)
{
	pid_t child;
	int status;

	fflush(stdout);
	child = fork();
	if (!child) {
		pthread_t thread;

		for (int i = 0; i < 3; i++)
			pthread_create(&thread, NULL, never_ends, NULL);
		never_ends(NULL);
	}
	usleep(microseconds);
	kill(child, SIGKILL);
	status = status_of(child);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

static void storm(int number)
{
	static struct lines before, after;
	int killed = 0;

	run_once();
	read_vmallocinfo(&before);
	for (int i = 0; i < number; i++)
		killed += killed_after(i * 100000 / number);
	read_vmallocinfo(&after);
	check("killed", killed, number);
	check("no instance", instances(), 0);
	check("/proc/vmallocinfo is as it was", differences(&before, &after), 0);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!strcmp(what, "signals"))
		signal_checks();
	else if (!strcmp(what, "killed"))
		killed();
	else if (!strcmp(what, "exits"))
		exits();
	else if (!strcmp(what, "forks"))
		forks();
	else if (!strcmp(what, "programs") && argc > 2)
		programs(atoi(argv[2]));
	else if (!strcmp(what, "storm") && argc > 2)
		storm(atoi(argv[2]));
	else if (!strcmp(what, "once"))
		return count() != 1;
	else
		return 2;
	return failures != 0;
}
