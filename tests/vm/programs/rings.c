// SPDX-License-Identifier: GPL-2.0-only
/*
 * rings: an unmodified program, as far as kbridge goes, that says in which ring each of its parts
 * runs, by the code segment: 33 (ring 3) or 10 (ring 0).  rings main: only its main().
 * rings fresh: touches stack pages that are not there yet.
 */
#include <err.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t in_handler, in_alarm, alarms, on_own_stack;
static char signal_stack[65536];

static unsigned int cs(void)
{
	unsigned int value;

	asm volatile("mov %%cs, %0" : "=r"(value));
	return value;
}

static void say(const char *part)
{
	printf("%s %x\n", part, cs());
	fflush(stdout);
}

static void *thread(void *part)
{
	say(part);
	return NULL;
}

static void on_user_signal(int number)
{
	char here;

	(void)number;
	in_handler = cs();
	on_own_stack = &here >= signal_stack && &here < signal_stack + sizeof(signal_stack);
}

static void on_alarm(int number)
{
	(void)number;
	in_alarm = cs();
	alarms++;
}

/* A leaf whose locals are below the stack pointer: interrupts must leave them alone. */
static __attribute__((noinline)) uint64_t red_zone(uint64_t seed)
{
	volatile uint64_t a = seed, b = ~seed, c = seed * 3, d = seed ^ 5;

	return (a ^ ~b) | (c - seed * 3) | (d ^ 5 ^ seed);
}

static void *count(void *bad)
{
	uint64_t k;

	for (k = 0; k < 3000000; k++)
		*(uint64_t *)bad |= red_zone(k);
	return NULL;
}

/* Some thousand fresh pages, and floating point across interrupts, signals and switches. */
static void work(void)
{
	const struct itimerval often = { { 0, 2000 }, { 0, 2000 } }, never = { 0 };
	uint64_t bad[3] = { 0 };
	double sum = 0;
	pthread_t threads[2];
	char *pages =
		mmap(NULL, 8 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int k;

	signal(SIGALRM, on_alarm);
	setitimer(ITIMER_REAL, &often, NULL);
	for (k = 0; k < 2; k++)
		pthread_create(&threads[k], NULL, count, &bad[k]);
	while (alarms < 50)
		count(&bad[2]);
	for (k = 0; k < 1000000; k++)
		sum += k * 0.5;
	for (k = 0; k < 8 << 20; k += 4096)
		pages[k] = 1;
	for (k = 0; k < 2; k++)
		pthread_join(threads[k], NULL);
	setitimer(ITIMER_REAL, &never, NULL);
	printf("alarm %x\n", in_alarm);
	printf("alarms %s\n", alarms > 2 ? "many" : "few");
	printf("memory %s\n", bad[0] | bad[1] | bad[2] ? "changed" : "right");
	printf("sum %.0f\n", sum);
	fflush(stdout);
}

static __attribute__((noinline)) void fresh_stack(void)
{
	volatile char deep[256 * 1024];

	memset((void *)deep, 1, sizeof(deep));
	printf("fresh %d\n", deep[100]);
}

static void child(void)
{
	pid_t pid = fork();
	int status = 0;

	if (!pid) {
		say("child");
		execl("/proc/self/exe", "rings", "main", NULL);
		_exit(1);
	}
	if (waitpid(pid, &status, 0) != pid || status)
		errx(1, "the child failed: %x", status);
	printf("system ");
	fflush(stdout);
	if (system("echo done"))
		errx(1, "system");
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = on_user_signal, .sa_flags = SA_ONSTACK };
	const stack_t own = { .ss_sp = signal_stack, .ss_size = sizeof(signal_stack) };
	pthread_t other;

	say("main");
	if (argc > 1 && !strcmp(argv[1], "fresh"))
		fresh_stack();
	if (argc > 1)
		return 0;
	pthread_create(&other, NULL, thread, "thread");
	pthread_join(other, NULL);
	sigaltstack(&own, NULL);
	sigaction(SIGUSR1, &action, NULL);
	raise(SIGUSR1);
	printf("handler %x\nhandler's stack %s\n", in_handler, on_own_stack ? "own" : "thread's");
	fresh_stack();
	work();
	child();
	say("end");
	return 0;
}
