// SPDX-License-Identifier: GPL-2.0-only
/*
 * The self-test of the kelevate module: all that /dev/kelevate promises in kelevate.h, tried by
 * hand, with an image of its own (image.S).  It needs the module and libc, nothing of kbridge.
 *
 * Prints TAP; exit status as in kselftest: 0 passed, 1 failed, 4 skipped.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "../kelevate/kelevate.h"
#include "selftest.h"

#define DEVICE "/dev/kelevate"
#define MODULE "/sys/module/kelevate"
#define NAME "selftest"
#define PASS 0
#define FAIL 1
#define SKIP 4

enum gate {
	ADD,
	COUNT,
	SEVENTH,
	WHERE,
	FAILS,
	GATES
};

static unsigned int tests, failures;

/* ---- TAP ---- */

static void report(int good, const char *what, const char *remark)
{
	printf("%sok %u %s%s\n", good ? "" : "not ", ++tests, what, remark);
	failures += !good;
}

static void check(const char *what, long got, long wanted)
{
	report(got == wanted, what, "");
	if (got != wanted)
		printf("# got %ld (%#lx), not %ld\n", got, got, wanted);
}

/* `error` is an errno, or 0 */
static void expect(const char *what, int error, int wanted)
{
	report(error == wanted, what, "");
	if (error != wanted)
		printf("# %s, not %s\n", strerror(error), strerror(wanted));
}

static void skip(const char *what)
{
	report(1, what, " # SKIP");
}

static void skip_all(const char *why)
{
	printf("1..0 # SKIP %s\n", why);
	exit(SKIP);
}

/* ---- the device ---- */

static int must_open(void)
{
	int fd = open(DEVICE, O_RDWR | O_CLOEXEC);

	if (fd < 0) {
		printf("Bail out! %s: %s\n", DEVICE, strerror(errno));
		exit(FAIL);
	}
	return fd;
}

/* 0 or errno, as those that follow */
static int command(int fd, unsigned long number, const void *arg)
{
	return ioctl(fd, number, arg) < 0 ? errno : 0;
}

static const char no_symbols[1];
static const Elf64_Sym first_symbol;
static const struct kelevate_range no_tables[KELEVATE_TABLES];
static struct kelevate_gate gates[GATES];
static Elf64_Rela record;

static unsigned int offset(const char *of)
{
	return (unsigned int)(of - image);
}

static struct kelevate_image description(void)
{
	gates[ADD].offset = offset(image_add);
	gates[COUNT].offset = offset(image_count);
	gates[SEVENTH].offset = offset(image_seventh);
	gates[SEVENTH].stack_words = 1;
	gates[WHERE].offset = offset(image_where);
	gates[FAILS].offset = offset(image_fails);
	record.r_offset = offset(image_pointer);
	record.r_info = ELF64_R_INFO(KELEVATE_SYM_IMAGE, R_X86_64_64);
	record.r_addend = offset(image_counter);
	return (struct kelevate_image){
		.abi = KELEVATE_ABI,
		.size = sizeof(struct kelevate_image),
		.name = NAME,
		.content = (unsigned long)image,
		.records = (unsigned long)&record,
		.gates = (unsigned long)gates,
		.tables = (unsigned long)no_tables,
		.symbols = (unsigned long)&first_symbol,
		.strings = (unsigned long)no_symbols,
		.text_end = IMAGE_TEXT_END,
		.rodata_end = IMAGE_RODATA_END,
		.end = IMAGE_END,
		.nrecords = 1,
		.ngates = GATES,
		.nsymbols = 1,
		.strings_size = 1,
		.flags = KELEVATE_LINKED, /* no address of this boot is needed */
	};
}

static int load(int fd, const struct kelevate_image *image)
{
	return command(fd, KELEVATE_LOAD, image);
}

#define WORDS(...) ((const unsigned long[7]){ __VA_ARGS__ })

static int gate(int fd, unsigned long index, const unsigned long words[7], unsigned long *result)
{
	struct answer answer;

	raw_gate(fd, (unsigned long)image << 4 | index, words, &answer);
	if (answer.rax < 0)
		return (int)-answer.rax;
	*result = answer.rdx;
	return answer.rdi == KELEVATE_DONE ? 0 : EPROTO;
}

/* Whether a child's function returned 0: it has a process of its own. */
static int in_child(int (*work)(int), int fd)
{
	int status;
	pid_t child;

	fflush(stdout);
	child = fork();
	if (!child)
		_exit(work(fd));
	if (child < 0 || waitpid(child, &status, 0) < 0)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

/* ---- who may ---- */

static int has_capability(void)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2];

	return !syscall(SYS_capget, &header, data) && data[0].effective & 1u << CAP_SYS_MODULE;
}

static int drop_capability(void)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &header, data))
		return -1;
	data[0].effective &= ~(1u << CAP_SYS_MODULE);
	data[0].permitted &= ~(1u << CAP_SYS_MODULE);
	return (int)syscall(SYS_capset, &header, data);
}

/* Root without CAP_SYS_MODULE; each bit of the status is a way that is open. */
static int without_capability(int fd)
{
	struct kelevate_image mine = description();
	struct kelevate_elevation up = { 0 };
	struct kelevate_invocation call = { .function = -4096ul };
	unsigned long result;
	int bad = 0;

	if (drop_capability())
		return 255;
	bad |= (open(DEVICE, O_RDWR) >= 0 || errno != EPERM) << 0;
	bad |= (load(fd, &mine) != EPERM) << 1;
	bad |= (gate(fd, ADD, WORDS(2, 3), &result) != EPERM) << 2;
	bad |= (command(fd, KELEVATE_ATTACH, image) != EPERM) << 3;
	bad |= (command(fd, KELEVATE_ELEVATE, &up) != EPERM) << 4;
	bad |= (command(fd, KELEVATE_INVOKE, &call) != EPERM) << 5;
	bad |= (mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) != MAP_FAILED || errno != EPERM)
	       << 6;
	return bad;
}

static int as_nobody(int fd)
{
	if (setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534))
		return 255;
	return open(DEVICE, O_RDWR) >= 0 || errno != EACCES;
}

static void who_may(int fd)
{
	struct stat seen;

	check("the device is there", stat(DEVICE, &seen), 0);
	check("it is a character device", S_ISCHR(seen.st_mode), 1);
	check("its mode is 0600", seen.st_mode & 07777, 0600);
	check("it is root's", seen.st_uid, 0);
	check("EPERM everywhere without CAP_SYS_MODULE", in_child(without_capability, fd), 0);
	check("EACCES for another user", in_child(as_nobody, fd), 0);
}

/* ---- what is refused ---- */

static void refuses_commands(void)
{
	struct kelevate_invocation call = { .function = (unsigned long)image };
	struct kelevate_counts counts;
	unsigned long result;
	int fd = must_open();

	expect("a command that is none", command(fd, _IO(0xb8, 0x7f), NULL), ENOTTY);
	expect("read()", read(fd, &result, 1) < 0 ? errno : 0, EINVAL);
	expect("lseek() that is no gate", lseek(fd, 0, SEEK_SET) < 0 ? errno : 0, ESPIPE);
	expect("a gate before an image is there", gate(fd, ADD, WORDS(0, 0), &result), ENOTTY);
	expect("a mapping before an image is there",
	       mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED ? errno : 0, ENODEV);
	expect("KELEVATE_LOAD of nothing", load(fd, NULL), EFAULT);
	expect("KELEVATE_ATTACH to what is no instance", command(fd, KELEVATE_ATTACH, image),
	       ENOENT);
	expect("KELEVATE_INVOKE of a user address", command(fd, KELEVATE_INVOKE, &call), EINVAL);
	expect("KELEVATE_COUNT of no program", command(fd, KELEVATE_COUNT, &counts), ENODATA);
	close(fd);
}

static void refuses_images(void)
{
	static const char names[] = "nothing [no_such_module]";
	static unsigned long import;
	struct kelevate_image good = description(), bad;
	int fd = must_open();

	bad = good;
	bad.abi++;
	expect("an image for the next ABI", load(fd, &bad), EPROTO);
	bad = good;
	bad.size -= 8;
	expect("an image's description that is too short", load(fd, &bad), EPROTO);
	bad = good;
	bad.end++;
	expect("an image that ends in a page", load(fd, &bad), EINVAL);
	bad = good;
	bad.name[1] = '/';
	expect("an image's name with a slash", load(fd, &bad), EINVAL);
	bad = good;
	bad.gates = 0;
	expect("no gates where there should be some", load(fd, &bad), EFAULT);
	bad = good;
	gates[ADD].offset = IMAGE_TEXT_END;
	expect("a gate outside of the text", load(fd, &bad), EINVAL);
	description();
	record.r_offset = IMAGE_END - 4;
	expect("a relocation over the image's end", load(fd, &bad), EINVAL);
	bad = description();
	record.r_info = ELF64_R_INFO(KELEVATE_SYM_IMAGE, R_X86_64_32);
	expect("a relocation that does not fit", load(fd, &bad), ENOEXEC);
	bad = description();
	bad.flags = 0;
	expect("addresses of another boot", load(fd, &bad), ESTALE);
	bad = description();
	bad.nimports = 1;
	bad.imports = (unsigned long)&import;
	bad.import_names = (unsigned long)names;
	bad.import_names_size = sizeof(names);
	expect("a module that is not loaded", load(fd, &bad), ENOENT);
	close(fd);
}

/* ---- gates and mappings ---- */

static int counts_in_child(int fd)
{
	unsigned long result = 0;

	return gate(fd, COUNT, WORDS(0), &result) || result != 3;
}

static void runs_gates(int fd)
{
	struct kelevate_image mine = description();
	unsigned long result = 0, other = (unsigned long)image + 4096;
	struct answer answer;

	expect("KELEVATE_LOAD", load(fd, &mine), 0);
	expect("KELEVATE_LOAD again", load(fd, &mine), 0);
	mine.content = other;
	expect("KELEVATE_LOAD of another image", load(fd, &mine), ENOTTY);
	expect("a gate", gate(fd, ADD, WORDS(2, 40), &result), 0);
	check("its result", result, 42);
	expect("a gate with a word on the stack",
	       gate(fd, SEVENTH, WORDS(1, 2, 3, 4, 5, 6, 7), &result), 0);
	check("its result", result, 7);
	gate(fd, COUNT, WORDS(0), &result);
	expect("a gate with data", gate(fd, COUNT, WORDS(0), &result), 0);
	check("the data stays", result, 2);
	check("the image in the program is as it was", *(long *)image_counter, 0);
	check("a forked child shares it", in_child(counts_in_child, fd), 0);
	expect("a gate that is not there", gate(fd, GATES, WORDS(0), &result), ERANGE);
	raw_gate(fd, other << 4, WORDS(0), &answer);
	expect("a gate of another image", (int)-answer.rax, ENOTTY);
}

static void init_that_fails(void)
{
	struct kelevate_image mine = description();
	unsigned long result = 0;
	int fd = must_open();

	mine.init = offset(image_fails) + 1;
	expect("an image whose module_init() fails", load(fd, &mine), 0);
	expect("the gate of module_init()", gate(fd, FAILS, WORDS(0), &result), 0);
	check("tells what it returned", (int)result, -ENODEV);
	expect("other gates", gate(fd, ADD, WORDS(0, 0), &result), ECANCELED);
	close(fd);
}

static int refused_mapping(int fd, int prot)
{
	return mmap(NULL, IMAGE_END, prot, MAP_SHARED, fd, 0) == MAP_FAILED ? errno : 0;
}

static int reads_behind_the_end(int fd)
{
	char *map = mmap(NULL, 2 * IMAGE_END, PROT_READ, MAP_SHARED, fd, 0);

	return map == MAP_FAILED ? 1 : map[IMAGE_END];
}

static void maps(int fd)
{
	struct kelevate_image mine = description();
	char *map = mmap(image, IMAGE_END, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0);
	unsigned long result = 0;
	int other = must_open();

	check("the instance in place of the image", map == image, 1);
	check("its text", memcmp(map + offset(image_add), "\xf3\x0f\x1e\xfa", 4), 0);
	check("its data", *(long *)image_counter, 3);
	report(*(long *)image_pointer < 0, "its relocation: an address of the kernel", "");
	expect("a writable mapping", refused_mapping(fd, PROT_READ | PROT_WRITE), EPERM);
	expect("an executable mapping", refused_mapping(fd, PROT_READ | PROT_EXEC), EPERM);
	expect("mprotect(PROT_WRITE)", mprotect(map, IMAGE_END, PROT_READ | PROT_WRITE) ? errno : 0,
	       EACCES);
	expect("mprotect(PROT_EXEC)", mprotect(map, IMAGE_END, PROT_READ | PROT_EXEC) ? errno : 0,
	       EACCES);
	check("SIGBUS behind its end", in_child(reads_behind_the_end, fd), 1000 + SIGBUS);
	expect("KELEVATE_LOAD of what is live", load(other, &mine), EEXIST);
	expect("KELEVATE_ATTACH", command(other, KELEVATE_ATTACH, image), 0);
	expect("a gate through the attached file", gate(other, COUNT, WORDS(0), &result), 0);
	check("is the same instance's", result, 4);
	close(other);
}

static void invokes(int fd)
{
	struct kelevate_invocation call = { .words = { 40, 2 } };
	unsigned long where = 0;

	expect("a gate that returns an address", gate(fd, WHERE, WORDS(0), &where), 0);
	report((long)where < 0, "of the kernel", "");
	call.function = where;
	expect("KELEVATE_INVOKE", command(fd, KELEVATE_INVOKE, &call), 0);
	check("its result", call.result, 42);
}

/* ---- user code in ring 0 ---- */

static int ring(void)
{
	unsigned int cs;

	__asm__ volatile("mov %%cs, %0" : "=r"(cs));
	return cs & 3;
}

static int ring_of_child(int fd)
{
	return ring();
}

static int raised_again(void)
{
	long result;

	/* of no number that there is */
	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "0"((long)KELEVATE_AGAIN)
			 : "rcx", "r11", "memory");
	return (int)-result;
}

/* In a child: the thread goes on to be one that was elevated. */
static int bracket(int fd)
{
	struct kelevate_elevation up = { 0 };
	int before, within, number, child, after, bad = 0;
	void (*lower)(void);

	bad |= (raised_again() != ENOSYS) << 0;
	before = ring();
	if (command(fd, KELEVATE_ELEVATE, &up))
		return 255;
	within = ring();
	number = getppid();
	child = in_child(ring_of_child, fd);
	lower = (void (*)(void))up.lower;
	lower();
	after = ring();
	bad |= (before != 3) << 1 | (within != 0) << 2 | (after != 3) << 3;
	bad |= (number != getppid()) << 4 | (child != 3) << 5;
	bad |= (raised_again() != 0 || ring() != 0) << 6;
	lower();
	bad |= (ring() != 3) << 7;
	return bad;
}

static int program(int fd)
{
	struct kelevate_elevation up = { .flags = KELEVATE_PROGRAM };

	if (command(fd, KELEVATE_ELEVATE, &up) || ring() != 3)
		return 255; /* it is from the next exec on */
	execl("/proc/self/exe", "kelevate_test", "ring", NULL);
	return 254;
}

/* Of a machine with FRED, as one example: the kernel log says why. */
static int not_here(int fd)
{
	struct kelevate_elevation up = { 0 };

	return command(fd, KELEVATE_ELEVATE, &up) == EOPNOTSUPP;
}

static void elevates(void)
{
	static const char *const what[] = {
		"KELEVATE_ELEVATE of nothing",
		"KELEVATE_ELEVATE with unknown flags",
		"KELEVATE_ELEVATE: code in ring 0, system calls, children, the way down",
		"KELEVATE_PROGRAM: a program in ring 0",
		"KELEVATE_COUNT",
		"its threads",
	};
	struct kelevate_elevation unknown = { .flags = ~KELEVATE_ELEVATION_FLAGS };
	struct kelevate_counts counts = { 0 };
	int fd = must_open();
	unsigned int n;

	if (in_child(not_here, fd)) {
		for (n = 0; n < sizeof(what) / sizeof(what[0]); n++)
			skip(what[n]);
		close(fd);
		return;
	}
	expect(what[0], command(fd, KELEVATE_ELEVATE, NULL), EFAULT);
	expect(what[1], command(fd, KELEVATE_ELEVATE, &unknown), EINVAL);
	check(what[2], in_child(bracket, fd), 0);
	check(what[3], in_child(program, fd), 0);
	expect(what[4], command(fd, KELEVATE_COUNT, &counts), 0);
	check(what[5], counts.threads, 1);
	close(fd);
}

/* ---- the module ---- */

static long number_in(const char *path)
{
	char text[32] = "";
	int fd = open(path, O_RDONLY);

	if (fd < 0)
		return -1;
	if (read(fd, text, sizeof(text) - 1) < 0)
		text[0] = 0;
	close(fd);
	return atol(text);
}

/* Instances of this program's image, as /sys/module shows them. */
static int instances(void)
{
	DIR *folder = opendir("/sys/module");
	struct dirent *entry;
	int found = 0;

	while (folder && (entry = readdir(folder)))
		found += !strncmp(entry->d_name, "kb:" NAME "-", strlen("kb:" NAME "-"));
	if (folder)
		closedir(folder);
	return found;
}

static void module_is_held(void)
{
	if (number_in(MODULE "/refcnt") < 0) {
		skip("unloading while in use"); /* no module can be unloaded on this kernel */
		return;
	}
	expect("unloading while in use",
	       syscall(SYS_delete_module, "kelevate", O_NONBLOCK) ? errno : 0, EAGAIN);
}

/* What is of use to the next one who asks stays for a second. */
static int settles(const char *path, long wanted)
{
	const struct timespec pause = { 0, 100000000 };
	int n;

	for (n = 0; n < 50 && number_in(path) != wanted; n++)
		nanosleep(&pause, NULL);
	return number_in(path) == wanted;
}

/* ---- the log ---- */

static int open_log(void)
{
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);

	if (fd >= 0)
		lseek(fd, 0, SEEK_END);
	return fd;
}

/* How many lines have been added that have the word. */
static int lines_with(int fd, const char *word)
{
	char line[8192];
	int found = 0;
	ssize_t got;

	while ((got = read(fd, line, sizeof(line) - 1)) > 0 || errno == EPIPE) {
		if (got <= 0)
			continue; /* the log was faster */
		line[got] = 0;
		found += !!strstr(line, word);
	}
	return found;
}

static void log_has_it(int log)
{
	char word[64];
	int audit = open(MODULE "/parameters/audit", O_RDONLY);
	char set = 'N';

	if (audit >= 0 && read(audit, &set, 1) < 0)
		set = 'N';
	close(audit);
	snprintf(word, sizeof(word), "[%d] elevates: uid 0, ", getpid());
	if (log < 0 || set != 'N')
		skip("one line of this process in the kernel log");
	else
		check("one line of this process in the kernel log", lines_with(log, word), 1);
}

/* ---- whether it can be tried at all ---- */

static void needs(void)
{
	int fd;

	if (!has_capability())
		skip_all("needs root, with CAP_SYS_MODULE");
	fd = open(DEVICE, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		skip_all("there is no " DEVICE " to open: is the module loaded?");
	close(fd);
	if (number_in("/proc/sys/kernel/modules_disabled") == 1)
		skip_all("kernel.modules_disabled is 1");
	fd = open("/sys/kernel/security/lockdown", O_RDONLY);
	if (fd >= 0) {
		char text[64] = "";

		if (read(fd, text, sizeof(text) - 1) > 0 && !strstr(text, "[none]"))
			skip_all("the kernel is locked down");
		close(fd);
	}
}

int main(int argc, char **argv)
{
	long users, tainted = number_in("/proc/sys/kernel/tainted");
	int fd, log;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 2 && !strcmp(argv[1], "ring"))
		return ring();
	printf("TAP version 13\n");
	needs();
	users = number_in(MODULE "/refcnt");
	log = open_log();
	fd = must_open();
	refuses_commands();
	refuses_images();
	check("no instance is left", instances(), 0);
	runs_gates(fd);
	who_may(fd);
	init_that_fails();
	check("an instance in /sys/module", instances(), 1);
	maps(fd);
	invokes(fd);
	log_has_it(log);
	module_is_held();
	munmap(image, IMAGE_END);
	close(fd);
	check("no instance is left", instances(), 0);
	elevates();
	report(settles(MODULE "/refcnt", users), "nothing holds the module", "");
	check("the kernel has not complained", number_in("/proc/sys/kernel/tainted"), tainted);
	printf("1..%u\n", tests);
	return failures ? FAIL : PASS;
}
