// SPDX-License-Identifier: GPL-2.0-only
/*
 * How brackets, and threads and processes that are in one, end; and who may not begin one.
 *   bracket_ends leaves         fork, vfork, exec, exit, pthread_exit(), cancel, longjmp
 *   bracket_ends storm COUNT    processes with 4 threads in brackets, killed
 *   bracket_ends stepped        single steps by a debugger
 *   bracket_ends core           a core dump
 *   bracket_ends rights         capabilities, namespaces, seccomp, the GS base, int 0x80
 *   bracket_ends trips          another process's gates that SMAP and SMEP stop (two oopses)
 *   bracket_ends unload MODULE  kelevate, while a thread of a bracket lives and after
 *   bracket_ends withdrawn      modules_disabled, lockdown; nothing can be loaded afterwards
 *   bracket_ends ring           exits with the CS that it runs in: what the others execute
 */
#include "bracket.h"
#include <asm/prctl.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include "../../../kernel/kelevate/kelevate.h"
#include "bracket_kmod.h"
#include "machine.h"

#define TRIES 250 /* of 20 ms */

static _Atomic int wrong, ready;

static void expect(long got, long wanted, int line)
{
	if (got != wanted) {
		fprintf(stderr, "line %d: %ld, not %ld\n", line, got, wanted);
		wrong++;
	}
}

#define EXPECT(got, wanted) expect(got, wanted, __LINE__)

/* What kb_elevate() says: 0 or errno; it is lowered again. */
static int elevates(void)
{
	if (kb_elevate())
		return errno;
	if (!kb_is_elevated())
		return 1;
	kb_lower();
	return kb_is_elevated() ? 2 : 0;
}

/* ---- forks, execs, exits ---- */

static int born_inside(void)
{
	survive_faults();
	wrong = 0;
	EXPECT(cs(), RING3_CS);
	EXPECT(privileged_faults(), SIGSEGV);
	EXPECT(elevates(), 0);
	EXPECT(privileged_faults(), SIGSEGV);
	EXPECT(kb_lower(), 0); /* of the bracket that it was born in */
	EXPECT(kb_lower(), -1);
	EXPECT(elevates(), 0);
	return wrong;
}

static int executes(void)
{
	execl("/proc/self/exe", "bracket_ends", "ring", NULL);
	return 1;
}

static int elevates_and_executes(void)
{
	kb_elevate();
	return executes();
}

static int exits_inside(void)
{
	kb_elevate();
	exit(40 + (cs() == RING0_CS));
}

static int vforks(void)
{
	pid_t child = vfork();

	if (!child) {
		execl("/proc/self/exe", "bracket_ends", "ring", NULL);
		_exit(1);
	}
	return outcome(child);
}

static void *elevates_and_ends(void *unused)
{
	(void)unused;
	kb_elevate();
	pthread_exit((void *)(long)cs());
}

static void *waits_inside(void *unused)
{
	(void)unused;
	kb_elevate();
	for (ready = 1;;)
		pause();
	return NULL;
}

static long cancelled(void)
{
	pthread_t thread;
	void *result;

	ready = 0;
	pthread_create(&thread, NULL, waits_inside, NULL);
	while (!ready)
		usleep(1000);
	pthread_cancel(thread);
	pthread_join(thread, &result);
	return result == PTHREAD_CANCELED;
}

static void *executes_from_thread(void *unused)
{
	(void)unused;
	kb_elevate();
	executes();
	return NULL;
}

static int thread_executes(void)
{
	return in_thread(executes_from_thread);
}

static void jumps(void)
{
	int number;

	survive_faults();
	kb_elevate();
	number = sigsetjmp(out, 1);
	if (!number)
		raise(SIGSEGV);
	check("longjmp out of a handler, inside", cs(), RING0_CS);
	kb_lower();
	check("kb_lower() afterwards", cs(), RING3_CS);
	number = sigsetjmp(out, 1);
	if (!number) {
		kb_elevate();
		raise(SIGSEGV);
	}
	check("longjmp out of a bracket leaves it open", cs(), RING0_CS);
	check("kb_lower() ends it", kb_lower(), 0);
	check("CS then", cs(), RING3_CS);
}

static int leaves(void)
{
	kb_elevate();
	check("a child that is forked inside", in_child(born_inside), 0);
	check("what a child executes", in_child(executes), RING3_CS);
	check("vfork() and exec", vforks(), RING3_CS);
	check("the parent is still inside", cs(), RING0_CS);
	kb_lower();
	check("a child that is forked outside", in_child(elevates), 0);
	check("exec inside", in_child(elevates_and_executes), RING3_CS);
	check("exec inside, of another thread", in_child(thread_executes), RING3_CS);
	check("exit inside", in_child(exits_inside), 41);
	check("pthread_exit() inside", in_thread(elevates_and_ends), RING0_CS);
	check("pthread_cancel() inside", cancelled(), 1);
	jumps();
	return failures != 0;
}

/* ---- killed ---- */

static void *busy(void *number)
{
	char *page;
	long k;

	for (k = 0;; k++) {
		kb_elevate();
		page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		page[4096] = 1;
		tally(k);
		munmap(page, 8192);
		if ((k + (long)number) % 2)
			kb_lower();
	}
	return NULL;
}

static void in_brackets(void)
{
	pthread_t thread;
	long k;

	for (k = 0; k < 3; k++)
		pthread_create(&thread, NULL, busy, (void *)k);
	busy((void *)3);
}

static int storm(long count)
{
	long k, ended = 0;
	pid_t child;

	tally(0); /* loads the image: the processes share one */
	for (k = 0; k < count; k++) {
		child = fork();
		if (!child)
			in_brackets();
		usleep(500 * (k % 40));
		kill(child, SIGKILL);
		ended += outcome(child) == 1000 + SIGKILL;
	}
	check("processes that were killed", ended, count);
	check("SMEP and SMAP of processors", protected_everywhere(), 2);
	return failures != 0;
}

/* ---- a debugger ---- */

static volatile long *stepped; /* shared: 1 while inside, 2 then */

static int is_stepped(void)
{
	int k, sum = 0;

	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	raise(SIGSTOP);
	for (k = 0; k < 3; k++) {
		kb_elevate();
		*stepped = 1;
		sum += cs() == RING0_CS;
		getppid();
		*stepped = 0;
		kb_lower();
		sum += cs() == RING3_CS;
	}
	*stepped = 2;
	return sum;
}

static int steps(void)
{
	long inside = 0, all = 0, other = 0, high = 0;
	struct user_regs_struct regs;
	int status;
	pid_t child;

	stepped = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	child = fork();
	if (!child)
		_exit(is_stepped());
	for (status = status_of(child); WIFSTOPPED(status) && *stepped != 2;
	     status = status_of(child)) {
		ptrace(PTRACE_GETREGS, child, NULL, &regs);
		other += regs.cs != RING3_CS;
		high += (long)regs.rip < 0;
		inside += *stepped == 1;
		all++;
		ptrace(PTRACE_SINGLESTEP, child, NULL, NULL);
	}
	ptrace(PTRACE_CONT, child, NULL, NULL);
	check("steps inside", inside >= 12, 1);
	check("steps in all", all > 200, 1);
	check("steps with another CS than ring 3's", other, 0);
	check("steps in the kernel", high, 0);
	check("what the program saw", outcome(child), 6);
	return failures != 0;
}

static int crashes(void)
{
	struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };
	volatile int *guard = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	setrlimit(RLIMIT_CORE, &all);
	kb_elevate();
	*guard = cs();
	return 1;
}

static int core(void)
{
	struct stat core;

	check("core_pattern", put("/proc/sys/kernel/core_pattern", "/tmp/core"), 0);
	check("a fault inside", in_child(crashes), 1000 + SIGSEGV);
	check("its core", !stat("/tmp/core", &core) && core.st_size > 65536, 1);
	unlink("/tmp/core");
	return failures != 0;
}

/* ---- rights ---- */

static int set_capability(int on)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct caps[2] = { 0 };

	if (syscall(SYS_capget, &head, caps))
		return -1;
	caps[0].effective = on ? caps[0].permitted : caps[0].effective & ~(1u << CAP_SYS_MODULE);
	return syscall(SYS_capset, &head, caps);
}

static int drops_inside(void)
{
	wrong = 0;
	EXPECT(kb_elevate(), 0);
	EXPECT(kb_elevate(), 0);
	EXPECT(set_capability(0), 0);
	EXPECT(cs(), RING3_CS);
	EXPECT(kb_is_elevated(), 0);
	EXPECT(kb_lower(), 0);
	EXPECT(kb_lower(), 0);
	EXPECT(kb_lower(), -1);
	EXPECT(elevates(), EPERM);
	EXPECT(set_capability(1), 0);
	EXPECT(elevates(), 0);
	return wrong;
}

static int without(void)
{
	return set_capability(0) ? 99 : elevates();
}

static int becomes_nobody_inside(void)
{
	wrong = 0;
	EXPECT(kb_elevate(), 0);
	EXPECT(setresuid(65534, 65534, 65534), 0);
	EXPECT(cs(), RING3_CS);
	EXPECT(elevates(), EPERM);
	return wrong;
}

static int leaves_namespace_inside(void)
{
	wrong = 0;
	EXPECT(kb_elevate(), 0);
	EXPECT(unshare(CLONE_NEWUSER), 0);
	EXPECT(cs(), RING3_CS);
	EXPECT(elevates(), EPERM);
	return wrong;
}

/* lowers without a system call, then exits by the one that strict mode has */
static int strict_inside(void)
{
	kb_elevate();
	prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
	kb_lower();
	syscall(SYS_exit, cs());
	return 1;
}

static int strict(void)
{
	kb_elevate();
	kb_lower();
	prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
	kb_elevate();
	return 1;
}

static int uses_gs(void)
{
	static long word;

	wrong = 0;
	EXPECT(syscall(SYS_arch_prctl, ARCH_SET_GS, &word), 0);
	EXPECT(elevates(), EOPNOTSUPP);
	EXPECT(syscall(SYS_arch_prctl, ARCH_SET_GS, 0), 0);
	EXPECT(elevates(), 0);
	EXPECT(kb_elevate(), 0);
	EXPECT(syscall(SYS_arch_prctl, ARCH_SET_GS, &word), 0);
	EXPECT(cs(), RING3_CS);
	EXPECT(kb_lower(), 0);
	EXPECT(elevates(), EOPNOTSUPP);
	return wrong;
}

static int calls_of_32_bits(void)
{
	int fd = open("/dev/kelevate", O_RDWR);
	void *low = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);

	wrong = 0;
	EXPECT(int80(54, fd, (int)KELEVATE_ELEVATE, (long)low) < 0, 1);
	EXPECT(cs(), RING3_CS);
	EXPECT(syscall(0x40000000 | 514, fd, KELEVATE_ELEVATE, low), -1);
	EXPECT(cs(), RING3_CS);
	EXPECT(kb_elevate(), 0);
	EXPECT(int80(20, 0, 0, 0), getpid());
	EXPECT(cs(), RING0_CS);
	EXPECT(kb_lower(), 0);
	return wrong;
}

static int rights(void)
{
	check("the capability is dropped inside", in_child(drops_inside), 0);
	check("it is not there", in_child(without), EPERM);
	check("another user, inside", in_child(becomes_nobody_inside), 0);
	check("another user namespace, inside", in_child(leaves_namespace_inside), 0);
	check("seccomp's strict mode, inside", in_child(strict_inside), RING3_CS);
	check("kb_elevate() in it", in_child(strict), 1000 + SIGKILL);
	check("a GS base", in_child(uses_gs), 0);
	check("system calls of 32-bit programs", in_child(calls_of_32_bits), 0);
	return failures != 0;
}

/* ---- protection of others ---- */

static void *spins_inside(void *cpu)
{
	pin((long)cpu);
	kb_elevate();
	for (ready++;;)
		__asm__ volatile("pause");
	return NULL;
}

static long seven(void)
{
	return 7;
}

/* A process of another program's kind: threads inside on each processor. */
static pid_t spinning_process(void)
{
	int ends[2];
	pid_t child;
	char byte;

	pipe(ends);
	child = fork();
	if (!child) {
		pthread_t thread;

		pthread_create(&thread, NULL, spins_inside, (void *)0);
		pthread_create(&thread, NULL, spins_inside, (void *)1);
		while (ready < 2)
			usleep(1000);
		write(ends[1], "", 1);
		pause();
	}
	read(ends[0], &byte, 1);
	return child;
}

static int found_cpu;

static int touches(void)
{
	static const long word = 7;

	pin(found_cpu);
	return touch(&word);
}

static int enters(void)
{
	pin(found_cpu);
	return enter(seven);
}

static int trips(void)
{
	pid_t spinning = spinning_process();
	int k, both = 0;

	for (k = 0; k < 100; k++) {
		pin(k % 2);
		both += protected();
		usleep(2000); /* the processor goes to the other process meanwhile */
		both += protected();
	}
	check("SMEP and SMAP where others are inside", both, 200);
	for (found_cpu = 0; found_cpu < 2; found_cpu++) {
		check("SMAP kills", in_child(touches), 1000 + SIGKILL);
		check("SMEP kills", in_child(enters), 1000 + SIGKILL);
	}
	kill(spinning, SIGKILL);
	check("the other process was well", outcome(spinning), 1000 + SIGKILL);
	return failures != 0;
}

/* ---- unloading ---- */

static int unloads(void)
{
	return syscall(SYS_delete_module, "kelevate", O_NONBLOCK) ? errno : 0;
}

static int was_inside(void)
{
	kb_elevate();
	kb_lower();
	return unloads();
}

static int loads(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int error = fd < 0 || syscall(SYS_finit_module, fd, "", 0) ? errno : 0;

	close(fd);
	return error;
}

/* By gates, which hook nothing: what a bracket left. */
static int left_behind(void)
{
	unsigned long key = kb_symbol("preempt_notifier_key");

	return (key ? (int)kernel_word(key) : 50) + interrupt_stacks();
}

static int unload(const char *module)
{
	int k, error = -1;

	check("unloading from a thread that was inside", in_child(was_inside), EAGAIN);
	for (k = 0; k < TRIES && (error = unloads()); k++)
		usleep(20000);
	check("unloading afterwards", error, 0);
	check("loading it again", loads(module), 0);
	check("hooks and stacks that are left", in_child(left_behind), 0);
	check("a bracket", in_child(elevates), 0);
	for (k = 0; k < TRIES && (error = in_child(left_behind)) & 1; k++)
		usleep(20000);
	check("with no thread left: only stacks", error, 4);
	return failures != 0;
}

/* ---- withdrawn for good ---- */

static int locked_inside(void)
{
	wrong = 0;
	EXPECT(kb_elevate(), 0); /* as this thread did before */
	EXPECT(put("/sys/kernel/security/lockdown", "integrity"), 0);
	EXPECT(cs(), RING3_CS);
	EXPECT(kb_lower(), 0);
	EXPECT(elevates(), EPERM);
	return wrong;
}

static int withdrawn(void)
{
	mount("securityfs", "/sys/kernel/security", "securityfs", 0, NULL);
	check("a bracket", elevates(), 0);
	check("modules_disabled", put("/proc/sys/kernel/modules_disabled", "1"), 0);
	check("a bracket of another thread", in_child(elevates), EPERM);
	check("of one that had one before", elevates(), 0);
	check("lockdown, raised inside", locked_inside(), 0);
	return failures != 0;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!strcmp(what, "ring"))
		return cs();
	if (!strcmp(what, "leaves"))
		return leaves();
	if (!strcmp(what, "storm") && argc > 2)
		return storm(atol(argv[2]));
	if (!strcmp(what, "stepped"))
		return steps();
	if (!strcmp(what, "core"))
		return core();
	if (!strcmp(what, "rights"))
		return rights();
	if (!strcmp(what, "trips"))
		return trips();
	if (!strcmp(what, "unload") && argc > 2)
		return unload(argv[2]);
	if (!strcmp(what, "withdrawn"))
		return withdrawn();
	return 2;
}
