// SPDX-License-Identifier: GPL-2.0-only
/*
 * The first process of the throw-away machine: makes an ordinary small system, loads kelevate,
 * runs one program as root with its streams relayed to the host, reports how it ended, powers
 * off.  Static; everything it needs lies in its own folder: of the initramfs, or, where the root
 * is the host's, a folder of the host.  Its one argument names that folder, or the share that is
 * to be the root.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>
#include "guest.h"

#define RUN "/run/kbridge/"

static const char *ours = "/.kbridge"; /* our folder */

void power_off(void)
{
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}

static void say(enum frame_type type, const char *format, va_list args)
{
	char text[512];
	int size = vsnprintf(text, sizeof(text), format, args);

	if (size >= (int)sizeof(text))
		size = sizeof(text) - 1;
	channel_send(type, 0, text, size);
	dprintf(2, "kbridge guest: %s\n", text); /* on the console too: there may be no channel */
}

void warn(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say(FRAME_WARNING, format, args);
	va_end(args);
}

void fail(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say(FRAME_FAILED, format, args);
	va_end(args);
	channel_close();
}

/* A file of our folder; the name is good until the next call. */
static const char *our(const char *name)
{
	static char path[4096];

	snprintf(path, sizeof(path), "%s/%s", ours, name);
	return path;
}

static int load_module(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), err;

	if (fd < 0)
		return -1;
	err = syscall(SYS_finit_module, fd, "", 0);
	if (err && errno == EEXIST)
		err = 0;
	close(fd);
	return err;
}

/* The modules that a list names, one a line, in the order of their dependencies. */
static void load_modules(const char *list_file)
{
	size_t size;
	char *list = read_file(our(list_file), 65536, &size), *rest = list, *name;

	while (list && (name = strsep(&rest, "\n")))
		if (*name && load_module(our(name)))
			warn("cannot load the module %s: %s", name, strerror(errno));
	free(list);
}

void load_program_modules(void)
{
	load_modules("program-modules");
}

/* Where the root is the host's, modprobe is there: the modules of this kernel may lie elsewhere. */
static void show_modules(void)
{
	struct utsname names;
	char folder[sizeof(names.release) + 32];

	uname(&names);
	snprintf(folder, sizeof(folder), "/lib/modules/%s", names.release);
	if (make_folders(folder) || mount(our("lib-modules"), folder, NULL, MS_BIND, NULL))
		warn("modules are not at %s: %s", folder, strerror(errno));
}

/* ---- what programs with a kernel part need ---- */

static void copy_library(const char *from, const char *to)
{
	size_t size;
	char *data = read_file(from, 1024 * 1024, &size);

	if (data ? write_file(to, data, size, 0755) : errno != ENOENT)
		warn("cannot make %s: %s", to, strerror(errno));
	free(data);
}

static void set_up_kernel_bridge(void)
{
	if (!access(our("kelevate.ko"), R_OK) && load_module(our("kelevate.ko")))
		warn("the kelevate module does not load: %s; see the kernel's messages",
		     strerror(errno));
	if (mkdir("/run/kbridge", 0700) && errno != EEXIST)
		warn("cannot make /run/kbridge: %s", strerror(errno));
	copy_library(our("libkbridge.so"), RUN "libkbridge.so");
	if (make_libkernel(our("libkernel.so"), RUN "libkernel.so") < 0)
		warn("there is no libkernel.so for this boot");
	unlink(our("libkernel.so"));
}

/*
 * An oops kills the program that made it; a panic ends the machine at once.  From here on the
 * console shows all that the kernel says, also what the program makes it say.
 */
static void set_up_kernel(void)
{
	if (set_value("/proc/sys/kernel/panic_on_oops", "0") ||
	    set_value("/proc/sys/kernel/panic", "-1"))
		warn("cannot set how the kernel panics: %s", strerror(errno));
	set_value("/proc/sys/kernel/printk", "8");
}

/* Descriptors 0 to 2 are the console until the channel is open; the kernel may have none. */
static void open_console(void)
{
	int fd = open("/dev/console", O_RDWR);

	if (fd < 0)
		fd = open("/dev/null", O_RDWR);
	if (fd < 0)
		return;
	dup2(fd, 0);
	dup2(fd, 1);
	dup2(fd, 2);
	if (fd > 2)
		close(fd);
}

#define ROOT "kbridge-root="   /* our folder in the host's root, which is the root here */
#define SHARE "kbridge-share=" /* the tag of the share that is to be the root */

/* What stands behind `name`, or NULL.  Words that the kernel does not know come here, too. */
static const char *argument(char **argv, const char *name)
{
	while (*++argv)
		if (!strncmp(*argv, name, strlen(name)))
			return *argv + strlen(name);
	return NULL;
}

static void enter_share(const char *tag)
{
	static const char place[] = "/run/.kbridge";

	load_modules("root-modules");
	change_root_to_share(tag, ours, place);
	ours = place;
}

int main(int argc, char **argv)
{
	const char *in_root = argc ? argument(argv, ROOT) : NULL;
	const char *share = argc ? argument(argv, SHARE) : NULL;

	signal(SIGPIPE, SIG_IGN);
	if (in_root) {
		ours = in_root;
		load_modules("modules"); /* overlay is one of them */
		change_root();
	}
	if (share)
		enter_share(share);
	set_up_system();
	open_console();
	if (in_root)
		show_modules();
	else
		load_modules("modules");
	if (channel_open())
		fail("no port named kbridge");
	set_up_kernel();
	set_up_loopback();
	set_up_kernel_bridge();
	channel_send_u32(FRAME_HELLO, 0, PROTOCOL_VERSION);
	run_program();
	channel_close();
}
