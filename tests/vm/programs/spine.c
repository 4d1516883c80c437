// SPDX-License-Identifier: GPL-2.0-only
/*
 * Calls the kmod in every way that the gates promise and compares; one line a check.
 * spine: all checks; spine oops: a fault in a gate; spine killed: SIGKILL during a gate;
 * spine privileges, spine disabled: who may not.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>
#include "check.h"
#include "kbridge.h"
#include "spine_kmod.h"

static void words(void)
{
	struct pair p = { 1, 2 }, q = { 3, 4 };
	struct triple t = { 5, 6, 7 };
	long many_sum = 0, most_sum = 0;
	struct many many;
	struct most most;

	check("module_init ran once", started(), 1);
	for (int i = 0; i < 256; i++)
		most.w[i] = i ^ 5;
	for (int i = 0; i < 60; i++)
		many.w[i] = i ^ 3;
	for (int i = 0; i < 256; i++)
		most_sum += (i + 1) * (i ^ 5);
	for (int i = 0; i < 60; i++)
		many_sum += (i + 1) * (i ^ 3);
	check("sixty stack words", sum_many(0, many), many_sum);
	check("256 stack words", sum_most(most), most_sum);
	check("six words", sum6(1, 2, 3, 4, 5, 6), 654321);
	check("twelve words", sum12(1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3), 321987654321);
	check("structures by value", sum_structs(p, t, 8, 9, 1, 2, q), 43219876521);
	check("structure result", swapped(p).a * 10 + swapped(p).b, 21);
	check("128 bits", (long)(square((__int128)1 << 40) >> 70), 1024);
	check("negative result", minus_one(), -1);
	check("-ERESTARTSYS as result", restart_code(), -512);
	check("bytes and shorts", small(200, -5, 10), 205);
}

static void data(void)
{
	char text[96] = "", name[64] = "";
	int fd;

	check("current->pid", pid(), getpid());
	check("list", list_sum(5), 5);
	check("list again", list_sum(6), 11);
	check("function pointers in data", call_through_table(0, 10) + call_through_table(1, 10),
	      31);
	check("strings in data", greeting(text, sizeof(text)), 12);
	check("strings' bytes", strcmp(text, "hello kernel"), 0);
	check("copy_to_user to a bad address", greeting((char *)16, 64), -EFAULT);
	check("timer", timer_ticks(100) >= 2, 1);
	check("work item", works_done(), 1);
	check("own static keys", keys(0), 2);
	check("flipped", keys(1), 1);
	check("flipped back", keys(-1), 2);
	fd = open("/proc/sys/kernel/sched_schedstats", O_WRONLY);
	check("kernel's static key, off", kernel_key(), 0);
	check("sysctl", pwrite(fd, "1", 1, 0), 1);
	check("kernel's static key, on", kernel_key(), 1);
	check("sysctl back", pwrite(fd, "0", 1, 0), 1);
	check("kernel's static key, off again", kernel_key(), 0);
	close(fd);
	check("WARN goes on", warn(0) + warn(1) + warn(1), 3);
	check("per-CPU data", percpu_hits(), 1);
	check("per-CPU data again", percpu_hits(), 2);
	check("SMAP and SMEP on, alternatives right", has_smap(), 7);
	check("%ps", symbol_text(text, sizeof(text)), 0);
	check("%ps names", strncmp(text, "kfree twice", 11), 0);
	check("THIS_MODULE", module_named(name, sizeof(name)), 0);
	check("THIS_MODULE's name", strncmp(name, "kb:", 3), 0);
}

static void user_memory(void)
{
	int value = 41;

	check("get_user, put_user", increment(&value), 0);
	check("its value", value, 42);
	check("bad pointer", increment((int *)16), -EFAULT);
	check("kernel pointer", increment((int *)data_address()), -EFAULT);
	check("exception table", unsafe_increment(&value), 0);
	check("its value", value, 43);
	check("exception table, bad pointer", unsafe_increment((int *)16), -EFAULT);
}

static void symbols(void)
{
	unsigned long address = kb_symbol("_printk");

	check("kb_symbol", address >> 31 == 0x1ffffffff, 1);
	check("kb_symbol, unknown", kb_symbol("no_such_symbol_anywhere"), 0);
	check("libc's memcpy is no kernel address", (unsigned long)memcpy >> 47, 0);
}

static volatile int signals;

static void on_signal(int unused)
{
	signals++;
}

#define THREADS 8
#define CALLS 5000

static void *worker(void *unused)
{
	for (int i = 0; i < CALLS; i++) {
		if (sum6(i, 0, 0, 0, 0, 0) != i)
			abort();
		count();
		if (i % 1000 == 0) {
			pid_t child = fork();

			if (!child) {
				count();
				_exit(0);
			}
			while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
				;
		}
	}
	return unused;
}

static void threads(void)
{
	struct itimerval every = { { 0, 5000 }, { 0, 5000 } }, none = { { 0, 0 }, { 0, 0 } };
	pthread_t thread[THREADS];
	long before = count();

	signal(SIGALRM, on_signal);
	setitimer(ITIMER_REAL, &every, NULL);
	for (int i = 0; i < THREADS; i++)
		pthread_create(&thread[i], NULL, worker, NULL);
	for (int i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	setitimer(ITIMER_REAL, &none, NULL);
	check("threads, forks and signals counted", count() - before - 1,
	      THREADS * (CALLS + CALLS / 1000));
	check("signals came", signals > 0, 1);
}

static void sharing(void)
{
	int ends[2], status;
	pid_t child;
	char byte;

	count();
	if (pipe(ends))
		exit(1);
	child = fork();
	if (!child) {
		long mine = count();

		close(ends[0]);
		if (write(ends[1], &mine, 1) != 1)
			_exit(2);
		_exit(pid() == getpid() ? 0 : 1);
	}
	close(ends[1]);
	check("child's byte", read(ends[0], &byte, 1), 1);
	waitpid(child, &status, 0);
	check("child's gates", status, 0);
	check("one instance for parent and child", (char)count(), (char)(byte + 1));
	close(ends[0]);
	fflush(stdout);
	for (int fd = 3; fd < 1024; fd++)
		close(fd);
	check("after all files were closed", (char)count(), (char)(byte + 2));
	check("the list is still there", list_sum(0), 11);
}

static int killed(void)
{
	pid_t child = fork();
	int status;

	if (!child) {
		sleep_ms(60000);
		_exit(0);
	}
	usleep(100000);
	kill(child, SIGKILL);
	waitpid(child, &status, 0);
	check("SIGKILL during a gate", WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, 1);
	signal(SIGALRM, on_signal);
	alarm(1);
	check("a signal interrupts msleep_interruptible", sleep_ms(30000) > 1000, 1);
	check("and is delivered", signals, 1);
	return failures;
}

/* The status of a child that makes a gate as `uid`, with the instance loaded before or not. */
static int gate_as(uid_t uid, int loaded_before)
{
	pid_t child;
	int status;

	if (loaded_before)
		pid();
	fflush(stdout);
	child = fork();
	if (!child) {
		if (setresuid(uid, uid, uid))
			_exit(99);
		_exit(pid() == getpid() ? 0 : 98);
	}
	waitpid(child, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int privileges(void)
{
	check("a gate as nobody, nothing loaded", gate_as(65534, 0), 125);
	check("a gate as root", gate_as(0, 0), 0);
	check("a gate as nobody, through root's file", gate_as(65534, 1), 125);
	check("root's gates go on", pid(), getpid());
	return failures != 0;
}

/* kernel.modules_disabled stays set until the next boot. */
static int disabled(void)
{
	int fd = open("/proc/sys/kernel/modules_disabled", O_WRONLY);

	check("sysctl", write(fd, "1", 1), 1);
	check("a gate where modules are disabled", gate_as(0, 0), 125);
	return failures != 0;
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc > 1 && !strcmp(argv[1], "oops"))
		return oops();
	if (argc > 1 && !strcmp(argv[1], "killed"))
		return killed() != 0;
	if (argc > 1 && !strcmp(argv[1], "privileges"))
		return privileges();
	if (argc > 1 && !strcmp(argv[1], "disabled"))
		return disabled();
	words();
	data();
	user_memory();
	symbols();
	threads();
	sharing();
	printf("%d failures\n", failures);
	return failures != 0;
}
