// SPDX-License-Identifier: GPL-2.0-only
/*
 * Brackets: what holds in ring 0, in one process.  bracket_ends.c has how brackets, threads and
 * processes end, and who may not.
 *   bracket machine      the machine protects itself
 *   bracket rings        instructions, signals, nesting, errno
 *   bracket leaf LOOPS   registers and the red zone under timer signals
 *   bracket memory       page faults of all kinds
 *   bracket calls        system calls, threads, vDSO
 *   bracket kernel       gates and kernel functions by address
 *   bracket crowd LOOPS  8 threads with brackets, 2 without, and another process
 *   bracket nmis COUNT   non-maskable interrupts
 */
#include "bracket.h"
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/ucontext.h>
#include <time.h>
#include "bracket_kmod.h"

#define THREADS 8
#define BYSTANDERS 2
#define MIB (1l << 20)

extern long leaf(long loops);

static _Atomic int wrong, stop, ready; /* of the threads; check() is for the main one */

static void expect(long got, long wanted, int line)
{
	if (got != wanted) {
		fprintf(stderr, "line %d: %ld, not %ld\n", line, got, wanted);
		wrong++;
	}
}

#define EXPECT(got, wanted) expect(got, wanted, __LINE__)

static long milliseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- machine ---- */

static int machine(void)
{
	check("KASLR", kb_symbol("_text") != 0xffffffff81000000, 1);
	check("processors with SMEP and SMAP", protected_everywhere(), 2);
	check("kb_is_elevated()", kb_is_elevated(), 0);
	check("CS", cs(), RING3_CS);
	return failures != 0;
}

/* ---- rings ---- */

static volatile long signals_in_ring0, signals_saved_ring3, signals_with_ac;

static void on_timer(int number, siginfo_t *info, void *context)
{
	const ucontext_t *c = context;

	(void)number;
	(void)info;
	signals_in_ring0 += cs() == RING0_CS;
	signals_saved_ring3 += (c->uc_mcontext.gregs[REG_CSGSFS] & 0xffff) == RING3_CS;
	signals_with_ac += !!(c->uc_mcontext.gregs[REG_EFL] & 0x40000);
}

/* A timer signal each 2 ms; 0 stops it. */
static void signal_each(int microseconds)
{
	struct sigaction action = { .sa_sigaction = on_timer, .sa_flags = SA_SIGINFO | SA_RESTART };
	struct itimerval every = { { 0, microseconds }, { 0, microseconds } };

	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &every, NULL);
}

static void timers(void)
{
	long end;

	signal_each(2000);
	kb_elevate();
	for (end = milliseconds() + 10000; milliseconds() < end && signals_in_ring0 < 50;)
		;
	kb_lower();
	signal_each(0);
	check("timer signals' handlers in ring 0", signals_in_ring0 >= 50, 1);
	check("their saved CS is ring 3's", signals_saved_ring3 == signals_in_ring0, 1);
	check("their saved flags have no AC", signals_with_ac, 0);
}

/* The handler has brackets of its own: the program's stay as they are. */
static void own_bracket(int number)
{
	(void)number;
	EXPECT(kb_elevate(), 0);
	EXPECT(cs(), RING0_CS);
	EXPECT(kb_lower(), 0);
}

static void brackets_in_handlers(void)
{
	struct itimerval every = { { 0, 1000 }, { 0, 1000 } }, none = { 0 };
	long end = milliseconds() + 500, loops = 0;

	signal(SIGALRM, own_bracket);
	setitimer(ITIMER_REAL, &every, NULL);
	for (wrong = 0; milliseconds() < end; loops++) {
		EXPECT(cs(), RING3_CS);
		EXPECT(kb_elevate(), 0);
		EXPECT(cs(), RING0_CS);
		EXPECT(kb_lower(), 0);
	}
	setitimer(ITIMER_REAL, &none, NULL);
	check("brackets whose signal handlers have brackets", wrong, 0);
	check("how many", loops > 100, 1);
}

/* What user code saved of the flags inside must not reach ring 3's alignment checks. */
static void flags(void)
{
	unsigned long inside, outside;
	char bytes[16] = { 0 };

	kb_elevate();
	__asm__ volatile("pushfq; popq %0" : "=r"(inside));
	/* a popf that clears AC: the next access faults once, and goes on */
	__asm__ volatile("pushfq; andq $~0x40000, (%%rsp); popfq" ::: "memory", "cc");
	bytes[1]++;
	kb_lower();
	__asm__ volatile("pushfq; popq %0" : "=r"(outside));
	check("interrupts are on inside", inside >> 9 & 1, 1);
	check("AC is off outside", outside >> 18 & 1, 0);
	check("a write with AC off inside", bytes[1], 1);
}

static int rings(void)
{
	survive_faults();
	errno = 0;
	check("kb_lower() without a bracket", kb_lower(), -1);
	check("its errno", errno, EINVAL);
	check("CR4 outside", privileged_faults(), SIGSEGV);
	errno = 77;
	check("kb_elevate()", kb_elevate(), 0);
	check("CS inside", cs(), RING0_CS);
	check("kb_is_elevated() inside", kb_is_elevated(), 1);
	check("CR4 inside", read_cr4() != 0, 1);
	__asm__ volatile("cli; sti");
	check("kb_elevate() nested", kb_elevate(), 0);
	check("kb_lower() nested", kb_lower(), 0);
	check("CS still inside", cs(), RING0_CS);
	check("kb_lower()", kb_lower(), 0);
	check("CS outside", cs(), RING3_CS);
	check("CR4 outside again", privileged_faults(), SIGSEGV);
	check("kb_elevate() again", kb_elevate(), 0);
	check("CS", cs(), RING0_CS);
	check("kb_lower() again", kb_lower(), 0);
	check("errno is kept", errno, 77);
	check("kb_lower() once too often", kb_lower(), -1);
	flags();
	timers();
	brackets_in_handlers();
	return failures != 0;
}

static int leaves(long loops)
{
	long end = milliseconds() + 30000, bad = 0;

	signal_each(2000);
	kb_elevate();
	do
		bad += leaf(loops);
	while (signals_in_ring0 < 50 && milliseconds() < end);
	kb_lower();
	signal_each(0);
	check("registers and red zone", bad, 0);
	check("signals meanwhile in ring 0", signals_in_ring0 >= 50, 1);
	return failures != 0;
}

/* ---- memory ---- */

#define DEEP 8000

__attribute__((noinline)) static long deep(long depth)
{
	volatile char page[4096];

	page[0] = depth;
	return depth ? deep(depth - 1) + (page[0] == (char)depth) : 0;
}

static void *deep_stack(void *unused)
{
	(void)unused;
	kb_elevate();
	EXPECT(deep(DEEP), DEEP);
	kb_lower();
	return NULL;
}

static void fresh_stack(void)
{
	pthread_attr_t attributes;
	pthread_t thread;

	wrong = 0;
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, 64 * MIB);
	pthread_create(&thread, &attributes, deep_stack, NULL);
	pthread_join(thread, NULL);
	check("32 MiB of stack, faulted in inside", wrong, 0);
}

static void fresh_data(void)
{
	char *data =
		mmap(NULL, 64 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	long sum = 0, k;

	kb_elevate();
	for (k = 0; k < 64 * MIB; k += 4096)
		data[k] = 1;
	for (k = 0; k < 64 * MIB; k += 4096)
		sum += data[k];
	munmap(data, 64 * MIB);
	kb_lower();
	check("64 MiB of data", sum, 64 * MIB / 4096);
}

/* mov $21, %eax; ret */
static const unsigned char twenty_one[] = { 0xb8, 21, 0, 0, 0, 0xc3 };

static void fresh_code(void)
{
	char path[] = "/tmp/bracket-code", *code;
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0700);
	long sum = 0, k;

	for (k = 0; k < 64; k++)
		pwrite(fd, twenty_one, sizeof(twenty_one), k * 4096);
	code = mmap(NULL, 64 * 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
	kb_elevate();
	for (k = 0; k < 64; k++)
		sum += ((int (*)(void))(code + k * 4096))();
	madvise(code, 64 * 4096, MADV_DONTNEED);
	for (k = 0; k < 64; k++)
		sum += ((int (*)(void))(code + k * 4096))();
	kb_lower();
	check("code of a file, twice fresh", sum, 2 * 64 * 21);
	munmap(code, 64 * 4096);
	close(fd);
	unlink(path);
}

/* The program's own text, the page that runs among it. */
static void own_code(void)
{
	unsigned long from = (unsigned long)own_code & -4096l;
	long got;

	kb_elevate();
	got = madvise((void *)from, 8192, MADV_DONTNEED);
	got += deep(3);
	kb_lower();
	check("the program's own text, dropped", got, 3);
}

static void copy_on_write(void)
{
	static char data[256 * 4096];
	long k, sum = 0;
	pid_t child;

	memset(data, 1, sizeof(data));
	child = fork();
	if (!child) {
		pause();
		_exit(0);
	}
	kb_elevate();
	for (k = 0; k < 256; k++)
		data[k * 4096]++;
	kb_lower();
	for (k = 0; k < 256; k++)
		sum += data[k * 4096];
	check("pages that a child has too", sum, 512);
	kill(child, SIGKILL);
	status_of(child);
}

static int fault_at(volatile char *address)
{
	int number = sigsetjmp(out, 1);

	if (!number)
		*address = 1;
	return number;
}

static int (*volatile again)(int);

static int endless(int depth)
{
	volatile char page[1024];

	page[0] = 1;
	return again(depth + 1) + page[0];
}

static void *overflow(void *unused)
{
	int number;

	(void)unused;
	survive_faults();
	again = endless;
	kb_elevate();
	number = sigsetjmp(out, 1);
	if (!number)
		again(0);
	EXPECT(number, SIGSEGV);
	EXPECT(caught_in, RING0_CS);
	EXPECT(cs(), RING0_CS);
	kb_lower();
	EXPECT(cs(), RING3_CS);
	return NULL;
}

static void bad_addresses(void)
{
	char *guard = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *readable = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int number;

	survive_faults();
	kb_elevate();
	check("NULL", fault_at(NULL), SIGSEGV);
	check("its handler is in ring 0", caught_in, RING0_CS);
	check("a guard page", fault_at(guard), SIGSEGV);
	check("a page to read", fault_at(readable), SIGSEGV);
	check("no address at all", fault_at((char *)0x7eadbeefdeadbeef), SIGSEGV);
	number = sigsetjmp(out, 1);
	if (!number)
		((void (*)(void))readable)();
	check("code in data", number, SIGSEGV);
	check("still inside", cs(), RING0_CS);
	kb_lower();
	wrong = 0;
	in_thread(overflow);
	check("a stack that overflows, handler on another", wrong, 0);
}

static int memory(void)
{
	fresh_data();
	fresh_stack();
	fresh_code();
	own_code();
	copy_on_write();
	bad_addresses();
	check("processors with SMEP and SMAP afterwards", protected_everywhere(), 2);
	return failures != 0;
}

/* ---- system calls ---- */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static long shared;

static void *ring_of_new(void *unused)
{
	(void)unused;
	return (void *)(long)(cs() + 1000 * privileged_faults());
}

static void *adds(void *unused)
{
	int k;

	(void)unused;
	for (k = 0; k < 20000; k++) {
		pthread_mutex_lock(&mutex);
		shared++;
		pthread_mutex_unlock(&mutex);
	}
	return NULL;
}

static void *adds_inside(void *unused)
{
	kb_elevate();
	adds(unused);
	kb_lower();
	return NULL;
}

static void futexes(void)
{
	pthread_t other[2];

	pthread_create(&other[0], NULL, adds, NULL);
	pthread_create(&other[1], NULL, adds_inside, NULL);
	adds_inside(NULL);
	pthread_join(other[0], NULL);
	pthread_join(other[1], NULL);
	check("a mutex of threads inside and outside", shared, 60000);
}

static void vsyscall(void)
{
	time_t (*time_of)(time_t *) = (void *)0xffffffffff600400ul;
	int number = sigsetjmp(out, 1);
	long outside = number ? 0 : time_of(NULL) > 1000, inside;

	kb_elevate();
	number = sigsetjmp(out, 1);
	inside = number ? 0 : time_of(NULL) > 1000;
	kb_lower();
	check("the vsyscall page is as outside", inside, outside);
}

static int calls(void)
{
	struct timespec brief = { 0, 20000000 };
	char word[8] = "";
	int ends[2], other;
	long before;
	void *page;

	survive_faults();
	kb_elevate();
	check("pipe()", pipe(ends), 0);
	check("write()", write(ends[1], "seven", 6), 6);
	check("read()", read(ends[0], word, 8), 6);
	check("what it read", strcmp(word, "seven"), 0);
	check("read() of a bad address", read(ends[0], (void *)1, 0), 0);
	check("write() of a bad address", write(ends[1], (void *)4096, 8), -1);
	check("its errno", errno, EFAULT);
	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check("mmap()", *(char *)page, 0);
	check("CS", cs(), RING0_CS);
	before = milliseconds();
	check("nanosleep()", nanosleep(&brief, NULL), 0);
	check("slept", milliseconds() - before >= 20, 1);
	check("sched_yield()", sched_yield(), 0);
	other = in_thread(ring_of_new);
	check("CS and CR4 of a thread that was made inside", other, RING3_CS + 1000 * SIGSEGV);
	check("an unknown system call", syscall(0x6b63), -1);
	check("kb_elevate()'s own", syscall(0x6b62), -1);
	check("CS after all", cs(), RING0_CS);
	kb_lower();
	futexes();
	vsyscall();
	return failures != 0;
}

/* ---- the kernel ---- */

static void turns(void)
{
	long k, sum = 0;

	for (k = 0; k < 1000; k++) {
		if (k % 2)
			kb_elevate();
		append(k);
		if (k % 2)
			kb_lower();
	}
	check("a list's length", list_length(), 1000);
	for (k = 0; k < 1000; k++) {
		if (k % 3)
			kb_elevate();
		sum += take() == k;
		if (k % 3)
			kb_lower();
	}
	check("its values, in their order", sum, 1000);
	check("then it is empty", list_length(), 0);
}

static int kernel(void)
{
	unsigned long six = address_of_six(), write_to = kb_symbol("ksys_write");
	int ends[2], k;
	char word[8] = "";

	pipe(ends);
	for (k = 0; k < 2; k++) {
		if (k)
			kb_elevate();
		check("six words, 64 bits", kb_call(six, 1l, 2l, 3l, 4l, 5l, 6l),
		      0x6000000000054321);
		check("ksys_write()", kb_call(write_to, (long)ends[1], "word", 5l), 5);
		check("what it wrote", read(ends[0], word, 8) == 5 && !strcmp(word, "word"), 1);
		check("its error", kb_call(write_to, -1l, "word", 5l), -EBADF);
	}
	close(3), close(4), close(5);
	check("files closed meanwhile", kb_call(six, 1l, 0l, 0l, 0l, 0l, 0l), 1);
	check("a gate", tally(5), 16);
	kb_lower();
	turns();
	fflush(stdout);
	kb_call((unsigned long)machine); /* which libkbridge ends */
	puts("FAIL a user address");
	return 1;
}

/* ---- many threads, and everybody else ---- */

static long loops_each;
static _Atomic long faults, tries;

static void *in_and_out(void *number)
{
	long k;

	for (k = 0; k < loops_each; k++) {
		EXPECT(cs(), RING3_CS);
		EXPECT(kb_elevate(), 0);
		EXPECT(cs(), RING0_CS);
		EXPECT(read_cr4() != 0, 1);
		if (k % 16 == 0)
			pin((k / 16 + (long)number) % 2);
		if (k % 4 == 0)
			EXPECT(tally(k), 3 * k + 1);
		EXPECT(cs(), RING0_CS);
		EXPECT(kb_lower(), 0);
	}
	return NULL;
}

static void *bystander(void *number)
{
	long k;

	survive_faults();
	pin((long)number % 2);
	for (k = 0; !stop || k < 5000; k++) {
		EXPECT(cs(), RING3_CS);
		if (k % 1000)
			continue;
		tries++;
		faults += privileged_faults() == SIGSEGV;
		sched_yield();
	}
	return NULL;
}

/* Another process, on each processor in turn: what its gates find. */
static int protected_meanwhile(void)
{
	int k, found = 0;

	for (k = 0; k < 200; k++) {
		pin(k % 2);
		found += protected() && on_cpu() == k % 2;
		sched_yield();
	}
	return found;
}

static int crowd(long loops)
{
	pthread_t thread[THREADS + BYSTANDERS];
	long k;
	pid_t other;

	loops_each = loops;
	tally(0); /* loads the image: the processes share one */
	signal_each(2000);
	other = fork();
	if (!other)
		_exit(protected_meanwhile() != 200);
	for (k = 0; k < THREADS + BYSTANDERS; k++)
		pthread_create(&thread[k], NULL, k < THREADS ? in_and_out : bystander, (void *)k);
	for (k = 0; k < THREADS; k++)
		pthread_join(thread[k], NULL);
	stop = 1;
	for (; k < THREADS + BYSTANDERS; k++)
		pthread_join(thread[k], NULL);
	signal_each(0);
	check("8 threads with brackets, 2 without", wrong, 0);
	check("gates inside", tallied(), 1 + THREADS * ((loops + 3) / 4));
	check("who has no bracket may not", tries - faults, 0);
	check("SMEP and SMAP in another process", outcome(other), 0);
	return failures != 0;
}

/* ---- non-maskable interrupts ---- */

static void *spins(void *unused)
{
	(void)unused;
	pin(1);
	kb_elevate();
	for (ready = 1; !stop;)
		EXPECT(leaf(1000), 0);
	kb_lower();
	return NULL;
}

static void *faults_and_calls(void *unused)
{
	char *data = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	long k;

	(void)unused;
	pin(1);
	kb_elevate();
	for (ready = 1; !stop;) {
		for (k = 0; k < MIB; k += 4096)
			data[k] = 1;
		madvise(data, MIB, MADV_DONTNEED);
		kb_lower();
		kb_elevate();
	}
	kb_lower();
	return NULL;
}

static void meets(const char *what, void *(*work)(void *), long count)
{
	long before = nmi_seen(1);
	pthread_t thread;

	stop = ready = 0;
	pthread_create(&thread, NULL, work, NULL);
	while (!ready)
		usleep(1000);
	check(what, nmi_send(1, count), 0);
	stop = 1;
	pthread_join(thread, NULL);
	check("each was served", nmi_seen(1) - before >= count, 1);
}

static int nmis(long count)
{
	pin(0);
	check("NMI handler", nmi_start(), 0);
	meets("NMIs of elevated computing", spins, count);
	meets("NMIs of elevated page faults and calls", faults_and_calls, count);
	check("the handler's own faults", nmi_faults() >= 4 * count, 1);
	check("all else", wrong, 0);
	nmi_stop();
	return failures != 0;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	long number = argc > 2 ? atol(argv[2]) : 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!strcmp(what, "machine"))
		return machine();
	if (!strcmp(what, "rings"))
		return rings();
	if (!strcmp(what, "leaf"))
		return leaves(number);
	if (!strcmp(what, "memory"))
		return memory();
	if (!strcmp(what, "calls"))
		return calls();
	if (!strcmp(what, "kernel"))
		return kernel();
	if (!strcmp(what, "crowd"))
		return crowd(number);
	if (!strcmp(what, "nmis"))
		return nmis(number);
	return 2;
}
