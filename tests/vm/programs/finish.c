// SPDX-License-Identifier: GPL-2.0-only
/*
 * Calls finish_kmod.c and compares.  Prints "ok ..." or "BAD ..." lines; the status is the number
 * of failures.
 *
 * finish bug: BUG() kills the program, and only it.
 * finish traced: trace_printk() of an image that is gone.
 * finish outlive: what a gate of a child, and of a parent that ends first, leaves running.
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "check.h"
#include "finish_kmod.h"

/* The value of a parameter in sysfs; with `text`, written first. */
static long parameter(const char *name, const char *text)
{
	char path[128], value[32] = "";
	glob_t found;
	int fd;

	snprintf(path, sizeof(path), "/sys/module/kb:finish-*/parameters/%s", name);
	if (glob(path, 0, NULL, &found))
		return -1;
	fd = open(found.gl_pathv[0], text ? O_RDWR : O_RDONLY);
	globfree(&found);
	if (fd < 0 || (text && write(fd, text, strlen(text)) < 0))
		return -2;
	if (pread(fd, value, sizeof(value) - 1, 0) < 0)
		return -3;
	close(fd);
	return *value == 'Y' ? 1 : strtol(value, NULL, 0);
}

static void parameters(void)
{
	char label[] = "two words", module[] = "finish";

	check("int parameter", param_size(), 77);
	check("bool parameter", param_flag(), 1);
	check("array parameter's length", param_list(-1), 3);
	check("array parameter", param_list(2), 30);
	check("string parameter", param_label_is(label, sizeof(label)), 1);
	check("KBUILD_MODNAME", modname_is(module, sizeof(module)), 1);
	check("parameter in sysfs", parameter("size", NULL), 77);
	check("set in sysfs", parameter("size", "78"), 78);
	check("set in the kmod", param_size(), 78);
	check("read-only in sysfs", parameter("flag", NULL), 1);
	check("not in sysfs (mode 0)", parameter("list", NULL), -1);
}

static void kernel_machinery(void)
{
	check("own static call", static_call_own(1), 2);
	check("updated", static_call_switch(), 10);
	check("updated for all callers", static_call_own(1), 11);
	check("the kernel's static calls", static_calls_of_kernel(), 1);
	check("the kernel's tracepoint, off", tracepoint_of_kernel(0), 0);
	check("the kernel's tracepoint, probed", tracepoint_of_kernel(1), 1);
	check("the kernel's tracepoint, off again", tracepoint_of_kernel(0), 0);
	check("probe of sched_switch", sched_switches(50) > 0, 1);
	check("own tracepoint is inert", tracepoint_own(3), 3);
	check("per-CPU data on each CPU", percpu_everywhere(), 60);
	check("per-CPU pointer", percpu_pointer(), 1);
	check("alternatives", alternatives(), 1);
	check("clear_page", page_cleared(), 1);
	check("constants are read-only", constants_are_read_only(), 1);
	check("WARN_ON_ONCE goes on", warn_here() + warn_here(), 2);
}

static void callbacks(void)
{
	long before;

	check("RCU callback", rcu_callback(), 5);
	check("static SRCU", srcu_both(), 5);
	before = thread_steps(50);
	check("kernel thread runs", before > 0, 1);
	usleep(100000);
	check("after the gate too", thread_steps(1) > before + 5, 1);
	check("delayed work", delayed_work(), 1);
	check("hrtimer", hrtimer_ticks(100) > 2, 1);
	check("kprobe", kprobe_hits(), 1);
}

static void sources(void)
{
	check("exported by another kmod", through_export(21), 42);
	check("assembly", sum_in_assembly(1, 2, 3, 4, 5, 6), 1021);
	check("C in C", in_included_source(6), 42);
}

static int bug(void)
{
	int status;
	pid_t child = fork();

	if (!child) {
		bug_here(1);
		_exit(0);
	}
	waitpid(child, &status, 0);
	check("BUG kills", WIFSIGNALED(status), 1);
	check("and others go on", static_call_own(1), 2);
	fflush(stdout);
	bug_here(1);
	return 0;
}

/* What trace_printk() wrote can be read when the image is gone. */
static int traced(void)
{
	static char text[1 << 16];
	size_t used = 0;
	ssize_t more;
	int status, fd;
	pid_t child;

	mkdir("/tmp/tracing", 0700);
	check("tracefs", mount("tracefs", "/tmp/tracing", "tracefs", 0, NULL), 0);
	fd = open("/tmp/tracing/tracing_on", O_WRONLY); /* an oops turns it off */
	check("tracing on", write(fd, "1", 1), 1);
	close(fd);
	child = fork();
	if (!child)
		_exit(trace_here(4711) != 4711);
	waitpid(child, &status, 0);
	check("trace_printk", status, 0);
	fd = open("/tmp/tracing/trace", O_RDONLY);
	while (used < sizeof(text) - 1) {
		more = read(fd, text + used, sizeof(text) - 1 - used);
		if (more <= 0)
			break;
		used += more;
	}
	close(fd);
	umount("/tmp/tracing");
	check("its number", strstr(text, "finish traces 4711") != NULL, 1);
	check("its line", strstr(text, "finish traces a line") != NULL, 1);
	return failures != 0;
}

static int instances(void)
{
	glob_t found;
	int count = glob("/sys/module/kb:finish-*", 0, NULL, &found) ? 0 : found.gl_pathc;

	globfree(&found);
	return count;
}

/* With a timer that runs on: a child that started it ends, then the parent, then the last. */
static void grandchild(void)
{
	long before;

	usleep(100000); /* the parent has ended */
	before = ticks();
	usleep(100000);
	check("it outlives the parent", ticks() > before + 5, 1);
	check("as long as the last process", instances(), 1);
	fflush(stdout);
	_exit(failures);
}

static void parent(void)
{
	int status;
	long before;
	pid_t child = fork();

	if (!child)
		_exit(start_ticking() < 0);
	waitpid(child, &status, 0);
	check("a child started a timer", status, 0);
	before = ticks();
	usleep(100000);
	check("it is the child's own instance", ticks() - before, 0);
	start_ticking();
	child = fork();
	if (!child)
		_exit(start_ticking() < 0);
	waitpid(child, &status, 0);
	before = ticks();
	usleep(100000);
	check("it outlives a child that shares it", ticks() > before + 5, 1);
	fflush(stdout);
	if (!fork())
		grandchild();
	_exit(failures);
}

static int outlive(void)
{
	int ends[2], status;
	pid_t child;
	char byte;

	if (pipe(ends))
		return 1;
	child = fork();
	if (!child) {
		close(ends[0]);
		parent();
	}
	close(ends[1]);
	waitpid(child, &status, 0);
	check("parent's checks", status, 0);
	check("end of the last one", read(ends[0], &byte, 1), 0);
	usleep(200000);
	check("and of the instance", instances(), 0);
	printf("%d failures\n", failures);
	return failures != 0;
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc > 1 && !strcmp(argv[1], "bug"))
		return bug();
	if (argc > 1 && !strcmp(argv[1], "traced"))
		return traced();
	if (argc > 1 && !strcmp(argv[1], "outlive"))
		return outlive();
	errno = 4711;
	param_size();
	check("the first gate keeps errno", errno, 4711);
	parameters();
	kernel_machinery();
	callbacks();
	sources();
	printf("%d failures\n", failures);
	return failures != 0;
}
