// SPDX-License-Identifier: GPL-2.0-only
/*
 * idtool, after the tool of that name in the paper (section 5.5.3): reads, copies, modifies and
 * installs interrupt descriptor tables.  What it installs is there as long as it runs.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include "idtool_kmod.h"

#define NO_COPY "there is no copy that -c made"

static const char help[] =
	"usage: idtool ACTION [-C CPU] [-v VECTOR] [-a ADDRESS] [-- COMMAND [ARGS]]\n"
	"\n"
	"actions:\n"
	"  -g, --get             print address and limit of the IDT in use\n"
	"  -p, --print           print entry -v, or all, of the IDT in use or the one at -a\n"
	"  -c, --copy            copy the IDT in use to kernel memory and print where that\n"
	"                        is; it stays there until -f\n"
	"  -m, --modify WHAT     modify entry -v of the copy at -a: addr:ADDRESS of a handler,\n"
	"                        ist:N (stack 1 to 4), or ist_disable (no other stack)\n"
	"  -i, --install         install the copy at -a while COMMAND runs, on that CPU\n"
	"                        (without one: until end of input); then, or when idtool\n"
	"                        ends in any other way, the old one is back\n"
	"  -n, --count           as -i, and count how often entry -v is used; without -a\n"
	"                        on a copy of its own\n"
	"  -f, --free            free the copy at -a\n"
	"  -h, --help            print this\n"
	"\n"
	"options:\n"
	"  -a, --address ADDRESS of an IDT, in hexadecimal\n"
	"  -C, --cpu CPU         which CPU's (default: the one it runs on), for -n and -i\n"
	"                        also \"all\"\n"
	"  -v, --vector VECTOR   0 to 255\n"
	"\n"
	"examples:\n"
	"  idtool -p -v 14\n"
	"  idtool -C 1 -n -v 14 -- ls            how many page faults CPU 1 had meanwhile\n"
	"  idtool -C 1 -c                        prints ADDRESS, for the next three\n"
	"  idtool -a ADDRESS -m ist:3 -v 1\n"
	"  idtool -C 1 -a ADDRESS -i -- ls\n"
	"  idtool -a ADDRESS -f\n"
	"\n"
	"It ends with COMMAND's status, 128+n when signal n ended COMMAND, 1 for an error\n"
	"and 2 for wrong usage.\n";

static struct {
	int action; /* the option's letter */
	const char *what;
	unsigned long address;
	int cpu, all_cpus, vector;
} options = { .cpu = -1, .vector = -1 };

static volatile pid_t child;
static volatile sig_atomic_t signalled;

static void usage(const char *what, const char *word)
{
	fprintf(stderr, "idtool: %s%s%s\nhint: idtool --help\n", what, word ? ": " : "",
		word ? word : "");
	exit(2);
}

/* `invalid`: what -EINVAL means here */
static void fail(const char *what, int err, const char *invalid)
{
	const char *why = strerror(-err), *hint = NULL;

	if (err == -EOPNOTSUPP) {
		why = "page-table isolation is on: user mode would not find the table";
		hint = "boot with pti=off, where that is acceptable";
	} else if (err == -EBUSY) {
		why = "in use, or the CPU does not use the kernel's own IDT now";
		hint = "wait until the other idtool has ended";
	} else if (err == -ENODEV) {
		why = "this machine does not find its handlers by an IDT of ours (FRED, Xen)";
	} else if (err == -ENXIO) {
		why = "there is no such CPU, or it is off";
	} else if (err == -EINVAL) {
		why = invalid;
	} else if (err == -EFAULT) {
		why = "no kernel memory at that address";
	}
	fprintf(stderr, "idtool: %s: %s\n", what, why);
	if (hint)
		fprintf(stderr, "hint: %s\n", hint);
	exit(1);
}

static unsigned long number(const char *word, int base, unsigned long most)
{
	unsigned long value;
	char *end;

	errno = 0;
	value = strtoul(word, &end, base);
	if (!isxdigit((unsigned char)*word) || *end || errno || value > most)
		usage("not a number that can be", word);
	return value;
}

static void parse(int argc, char **argv)
{
	static const struct option table[] = {
		{ "get", 0, NULL, 'g' },     { "print", 0, NULL, 'p' },
		{ "copy", 0, NULL, 'c' },    { "modify", 1, NULL, 'm' },
		{ "install", 0, NULL, 'i' }, { "count", 0, NULL, 'n' },
		{ "free", 0, NULL, 'f' },    { "help", 0, NULL, 'h' },
		{ "address", 1, NULL, 'a' }, { "cpu", 1, NULL, 'C' },
		{ "vector", 1, NULL, 'v' },  {},
	};
	int letter;

	while ((letter = getopt_long(argc, argv, "+gpcm:infha:C:v:", table, NULL)) != -1) {
		if (letter == '?') {
			usage("wrong option", NULL);
		} else if (letter == 'h') {
			fputs(help, stdout);
			exit(0);
		} else if (letter == 'a') {
			options.address = number(optarg, 16, ~0ul);
		} else if (letter == 'v') {
			options.vector = (int)number(optarg, 10, IDT_ENTRIES - 1);
		} else if (letter == 'C') {
			options.all_cpus = !strcmp(optarg, "all");
			options.cpu = options.all_cpus ? -1 : (int)number(optarg, 10, 1 << 20);
		} else if (options.action &&
			   !(strchr("in", letter) && strchr("in", options.action))) {
			usage("one action at a time", NULL);
		} else {
			/* -i -n is -n */
			options.action = options.action == 'n' ? 'n' : letter;
			options.what = letter == 'm' ? optarg : NULL;
		}
	}
	if (!options.action)
		usage("no action", NULL);
	if (argv[optind] && !strchr("in", options.action))
		usage("only -i and -n take a command", argv[optind]);
	if (strchr("mif", options.action) && !options.address)
		usage("which copy? give -a ADDRESS", NULL);
	if (strchr("mn", options.action) && options.vector < 0)
		usage("which entry? give -v VECTOR", NULL);
	if (options.all_cpus && !strchr("in", options.action))
		usage("one CPU, please", NULL);
}

static unsigned long in_use(int cpu)
{
	struct idt_register idt;
	int err = idt_get(cpu, &idt);

	if (err)
		fail("cannot read the IDT register", err, "");
	return idt.address;
}

static void get(void)
{
	struct idt_register idt;
	int err = idt_get(options.cpu, &idt);

	if (err)
		fail("cannot read the IDT register", err, "");
	printf("CPU %d: IDT at %#lx, limit %#x\n", options.cpu, idt.address, idt.limit);
}

static void print(void)
{
	unsigned long address = options.address ? options.address : in_use(options.cpu);
	int first = options.vector < 0 ? 0 : options.vector;
	int last = options.vector < 0 ? IDT_ENTRIES - 1 : options.vector;

	printf("vector  segment  type  dpl  ist  handler\n");
	for (int k = first; k <= last; k++) {
		struct idt_entry e;
		int err = idt_read(address, k, &e);

		if (err)
			fail("cannot read that IDT", err, "");
		if (e.present)
			printf("%6d  %#7x  %#4x  %3d  %3d  %016lx  %s\n", k, e.segment, e.type,
			       e.dpl, e.ist, e.handler, e.name);
		else
			printf("%6d  not present\n", k);
	}
}

static unsigned long copy(int cpu, int stay)
{
	unsigned long address;
	int err = idt_copy(cpu, stay, &address);

	if (err)
		fail("cannot copy the IDT", err, "");
	return address;
}

static void modify(void)
{
	const char *what = options.what;
	int err;

	if (!strncmp(what, "addr:", 5))
		err = idt_set_handler(options.address, options.vector, number(what + 5, 16, ~0ul));
	else if (!strncmp(what, "ist:", 4))
		err = idt_set_stack(options.address, options.vector, (int)number(what + 4, 10, 7));
	else if (!strcmp(what, "ist_disable"))
		err = idt_set_stack(options.address, options.vector, 0);
	else
		usage("-m takes addr:ADDRESS, ist:N or ist_disable, not", what);
	if (err)
		fail("cannot modify that entry", err,
		     NO_COPY ", or that is no kernel code or no stack");
}

static void on_signal(int signal_number)
{
	signalled = signal_number;
	if (child > 0)
		kill(child, signal_number);
}

/* Until the end of input or a signal. */
static int wait_for_input(void)
{
	char text[256];

	while (!signalled && read(STDIN_FILENO, text, sizeof(text)) > 0)
		;
	return signalled ? 128 + signalled : 0;
}

static int run(char **command)
{
	struct rusage usage;
	int status = 0;

	fflush(stdout);
	child = fork();
	if (child < 0)
		fail("cannot start the command", -errno, "");
	if (!child) {
		execvp(*command, command);
		fprintf(stderr, "idtool: %s: %s\n", *command, strerror(errno));
		_exit(127);
	}
	if (signalled) /* it came before there was a child to tell */
		kill(child, signalled);
	while (wait4(child, &status, 0, &usage) < 0 && errno == EINTR)
		;
	child = 0;
	printf("the command had %ld page faults\n", usage.ru_minflt + usage.ru_majflt);
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void install_on(int cpu, unsigned long address)
{
	int err = idt_install(cpu, address);

	if (err) {
		idt_restore();
		fail("cannot install that IDT", err, NO_COPY);
	}
	printf("CPU %d: IDT at %#lx\n", cpu, address);
}

static void install_everywhere(unsigned long address)
{
	struct idt_register unused;

	for (int cpu = 0; cpu < sysconf(_SC_NPROCESSORS_CONF); cpu++)
		if (idt_get(cpu, &unused) != -ENXIO) /* it is on */
			install_on(cpu, address);
}

/* Installs, runs the command, and puts all back; should this program die, its kmod does that. */
static int install(char **command)
{
	unsigned long address = options.address ? options.address : copy(options.cpu, 0);
	struct sigaction action = { .sa_handler = on_signal };
	cpu_set_t one;
	int status, err = options.action == 'n' ? idt_count(address, options.vector) : 0;

	if (err)
		fail("cannot count that entry", err, NO_COPY);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	if (options.all_cpus) {
		install_everywhere(address);
	} else {
		install_on(options.cpu, address);
		CPU_ZERO(&one);
		CPU_SET(options.cpu, &one);
		sched_setaffinity(0, sizeof(one), &one); /* for COMMAND */
	}
	if (options.action == 'n')
		printf("vector %d: %lu times\n", options.vector, idt_counted());
	fflush(stdout);
	status = *command ? run(command) : wait_for_input();
	idt_restore();
	if (options.action == 'n')
		printf("vector %d: %lu times\n", options.vector, idt_counted());
	return status;
}

int main(int argc, char **argv)
{
	int err;

	parse(argc, argv);
	if (options.cpu < 0)
		options.cpu = sched_getcpu();
	switch (options.action) {
	case 'g':
		get();
		break;
	case 'p':
		print();
		break;
	case 'c':
		printf("%#lx\n", copy(options.cpu, 1));
		break;
	case 'm':
		modify();
		break;
	case 'f':
		err = idt_free(options.address);
		if (err)
			fail("cannot free that IDT", err, NO_COPY);
		break;
	default:
		return install(argv + optind);
	}
	return 0;
}
