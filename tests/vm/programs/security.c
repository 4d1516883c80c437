// SPDX-License-Identifier: GPL-2.0-only
/* Who may not elevate does not, by any way; and who may leaves everybody else protected. */
#include "raw.h"
#include <grp.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include "check.h"
#include "machine.h"
#include "security_kmod.h"

#define INHERITED 200 /* the number at which compat.c finds an open file with an image */
#define NOBODY 65534
#define CHILDREN 150

static unsigned long first_gate(void)
{
	return own->image.content << 4;
}

/* What a child came to: its exit status, or 1000 + the signal. */
static int in_child(int (*work)(void))
{
	pid_t child;
	int status;

	fflush(stdout);
	child = fork();
	if (!child)
		_exit(work());
	waitpid(child, &status, 0);
	return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
}

static int set_capabilities(int kept)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct caps[2] = { 0 };

	if (syscall(SYS_capget, &head, caps))
		return -1;
	if (kept)
		caps[0].effective = caps[0].permitted;
	else
		caps[0].effective &= ~(1u << CAP_SYS_MODULE);
	return syscall(SYS_capset, &head, caps);
}

/* Every way in that is not the expected error: a bit for each. */
static int ways_in(int fd)
{
	int found = 0, other = open(DEVICE, O_RDWR), error = errno;
	struct kelevate_invocation invocation = { 0 };
	struct kelevate_elevation elevation = { 0 };
	void *map;

	if (other >= 0 || (error != EPERM && error != EACCES))
		found |= 1;
	if (raw(fd, KELEVATE_LOAD, (unsigned long)&own->image) != EPERM)
		found |= 2;
	if (raw_gate(fd, first_gate()) != EPERM)
		found |= 4;
	if (raw(fd, KELEVATE_ATTACH, own->image.content) != EPERM)
		found |= 8;
	if (raw(fd, KELEVATE_ELEVATE, (unsigned long)&elevation) != EPERM)
		found |= 32;
	if (raw(fd, KELEVATE_INVOKE, (unsigned long)&invocation) != EPERM)
		found |= 64;
	map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
	if (map != MAP_FAILED || errno != EPERM)
		found |= 16;
	return found;
}

static int without_capability(void)
{
	return set_capabilities(0) ? 99 : ways_in(own->fd);
}

static int as_nobody(void)
{
	if (setgroups(0, NULL) || setresgid(NOBODY, NOBODY, NOBODY) ||
	    setresuid(NOBODY, NOBODY, NOBODY))
		return 99;
	return ways_in(own->fd);
}

/* Root of a user namespace has every capability, but not in the initial one. */
static int in_user_namespace(void)
{
	int fd;

	if (unshare(CLONE_NEWUSER))
		return 99;
	fd = open("/proc/self/uid_map", O_WRONLY);
	if (write(fd, "0 0 1", 5) != 5 || geteuid())
		return 98;
	return ways_in(own->fd);
}

static int seccomp_strict(void)
{
	prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
	return my_pid() > 0;
}

/* A 64-bit program, by the system calls of 32-bit ones. */
static void other_system_calls(void)
{
	char *low = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	long result;

	strcpy(low, DEVICE);
	check("open() by int 0x80", int80(5, (long)low, O_RDWR, 0), -EPERM);
	check("a gate by int 0x80", int80(19, own->fd, 0, KELEVATE_CALL), -ENOTTY);
	check("KELEVATE_LOAD by int 0x80", int80(54, own->fd, (int)KELEVATE_LOAD, 0), -ENOTTY);
	check("mmap2() by int 0x80", int80(90, 0, 0, 0) < 0, 1);
	/* 514 is ioctl() of x32; a kernel without it knows no such call */
	result = syscall(0x40000000 | 514, own->fd, KELEVATE_ATTACH, own->image.content);
	check("KELEVATE_ATTACH by x32's ioctl()",
	      result < 0 && (errno == ENOSYS || errno == ENOTTY), 1);
	result = syscall(0x40000000 | 8, own->fd, first_gate(), KELEVATE_CALL);
	check("a gate by x32's lseek()", result < 0 && (errno == ENOSYS || errno == EPERM), 1);
}

static void views(void)
{
	char *image = (char *)own->image.content;
	int memory = open("/proc/self/mem", O_RDWR);
	long byte = 0xcc;

	check("the image made writable", mprotect(image, 4096, PROT_READ | PROT_WRITE) ? errno : 0,
	      EACCES);
	check("the image made executable", mprotect(image, 4096, PROT_READ | PROT_EXEC) ? errno : 0,
	      EACCES);
	check("the image mapped writable",
	      mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, own->fd, 0) == MAP_FAILED ? errno : 0,
	      EPERM);
	check("the image written as a debugger would", pwrite(memory, &byte, 1, (off_t)image) < 0,
	      1);
	close(memory);
}

static int refused(void)
{
	struct stat seen;

	check("a gate", my_pid(), getpid());
	check("stat", stat(DEVICE, &seen), 0);
	check("mode of the device", seen.st_mode, S_IFCHR | 0600);
	check("owner of the device", seen.st_uid || seen.st_gid, 0);
	check("root without CAP_SYS_MODULE", in_child(without_capability), 0);
	check("nobody", in_child(as_nobody), 0);
	check("root of a user namespace", in_child(in_user_namespace), 0);
	check("chmod", chmod(DEVICE, 0666), 0);
	check("nobody, where the device lets all open it", in_child(as_nobody), 0);
	check("chmod back", chmod(DEVICE, 0600), 0);
	check("seccomp's strict mode", in_child(seccomp_strict), 1000 + SIGKILL);
	other_system_calls();
	views();
	check("unloading while in use",
	      syscall(SYS_delete_module, "kelevate", O_NONBLOCK) ? errno : 0, EAGAIN);
	check("a gate after all that", my_pid(), getpid());
	return failures != 0;
}

/* Starts compat.c, which inherits a file with an image. */
static int inherit(const char *program)
{
	char content[32];

	check("a gate", my_pid(), getpid());
	if (dup2(own->fd, INHERITED) != INHERITED)
		return 1;
	snprintf(content, sizeof(content), "%lx", (unsigned long)first_gate());
	fflush(stdout);
	execl(program, program, content, NULL);
	perror(program);
	return 1;
}

/* ---- the log ---- */

static void *gates_of_a_thread(void *data)
{
	(void)data;
	for (int k = 0; k < 5; k++)
		my_pid();
	return NULL;
}

/* Of several threads at once: the log has the process once. */
static int some_gates(void)
{
	pthread_t threads[4];

	for (int k = 0; k < 4; k++)
		pthread_create(&threads[k], NULL, gates_of_a_thread, NULL);
	for (int k = 0; k < 4; k++)
		pthread_join(threads[k], NULL);
	for (int k = 0; k < 5; k++)
		if (my_pid() != getpid())
			return 1;
	return 0;
}

static int one_gate(void)
{
	return my_pid() != getpid();
}

static int as_user_1000(void)
{
	if (prctl(PR_SET_KEEPCAPS, 1) || setresuid(1000, 1000, 1000) || set_capabilities(1))
		return 99;
	prctl(PR_SET_NAME, "two\nlines");
	return some_gates();
}

static int logged(void)
{
	check("gates", some_gates(), 0);
	check("a child's", in_child(some_gates), 0);
	check("a child's of uid 1000", in_child(as_user_1000), 0);
	check("gates again", some_gates(), 0);
	/* more than kelevate remembers before it looks which of them are gone */
	for (int k = 0; k < CHILDREN; k++)
		if (in_child(one_gate))
			failures++;
	check("children's gates", failures, 0);
	return failures != 0;
}

/* A program of the same process, which elevates anew. */
static int started_again(void)
{
	check("gates before exec", some_gates(), 0);
	fflush(stdout);
	execl("/proc/self/exe", "security", NULL);
	return 1;
}

static int set_audit(const char *to)
{
	int fd = open("/sys/module/kelevate/parameters/audit", O_WRONLY), done = write(fd, to, 1);

	close(fd);
	return done;
}

static int audited(void)
{
	check("audit=1", set_audit("1"), 1);
	check("gates", some_gates(), 0);
	check("audit=0", set_audit("0"), 1);
	return failures != 0;
}

/* ---- SMEP and SMAP ---- */

static long secret = 42;

static long at_home(void)
{
	return 1;
}

static int touches(void)
{
	return touch(&secret) == 42;
}

static int enters(void)
{
	return enter(at_home) == 1;
}

static int long_gate(void)
{
	return stay(4000) != 4000;
}

/* The kernel's own memory, as any process tries it. */
static int reads_the_kernel(void)
{
	if (setresuid(NOBODY, NOBODY, NOBODY))
		return 99;
	return *(volatile char *)0xffffffff81000000ul;
}

static int protected(void)
{
	pid_t inside;
	int status;

	check("processors without SMEP and SMAP", lacking(), 0);
	fflush(stdout);
	inside = fork();
	if (!inside)
		_exit(long_gate());
	usleep(200000);
	check("kernel code reads user memory", in_child(touches), 1000 + SIGKILL);
	check("kernel code calls user code", in_child(enters), 1000 + SIGKILL);
	check("nobody reads kernel memory", in_child(reads_the_kernel), 1000 + SIGSEGV);
	check("processors without SMEP and SMAP, later", lacking(), 0);
	check("the long gate goes on meanwhile", waitpid(inside, &status, WNOHANG), 0);
	waitpid(inside, &status, 0);
	check("the long gate", status, 0);
	check("a gate after all that", my_pid(), getpid());
	return failures != 0;
}

/* ---- what cannot be undone ---- */

static int new_file(void)
{
	int fd = open(DEVICE, O_RDWR);
	struct kelevate_image copy = own->image;
	int error;

	if (fd < 0)
		return 99;
	/* not the mapping, which kelevate knows: an image of the same size elsewhere */
	copy.content =
		(uintptr_t)mmap(NULL, copy.end, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	copy.init = copy.exit = 0;
	error = raw(fd, KELEVATE_LOAD, (unsigned long)&copy);
	close(fd);
	return error;
}

static int modules_disabled(void)
{
	check("a gate", my_pid(), getpid());
	check("sysctl", put("/proc/sys/kernel/modules_disabled", "1"), 0);
	check("loading another image", new_file(), EPERM);
	check("a gate of what was loaded before", my_pid(), getpid());
	check("KELEVATE_LOAD of it", raw(own->fd, KELEVATE_LOAD, (unsigned long)&own->image), 0);
	return failures != 0;
}

static int locked_down(void)
{
	struct kelevate_invocation invocation = { 0 };
	struct kelevate_elevation elevation = { 0 };

	check("a gate", my_pid(), getpid());
	mount("securityfs", "/sys/kernel/security", "securityfs", 0, NULL);
	check("lockdown", put("/sys/kernel/security/lockdown", "integrity"), 0);
	check("loading another image", new_file(), EPERM);
	check("a gate by hand", raw_gate(own->fd, first_gate()), EPERM);
	check("KELEVATE_ELEVATE", raw(own->fd, KELEVATE_ELEVATE, (unsigned long)&elevation), EPERM);
	check("KELEVATE_INVOKE", raw(own->fd, KELEVATE_INVOKE, (unsigned long)&invocation), EPERM);
	fflush(stdout);
	my_pid(); /* which libkbridge ends, with one line and status 125 */
	puts("FAIL a gate under lockdown");
	return 1;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!strcmp(what, "refused"))
		return refused();
	if (!strcmp(what, "inherit") && argc > 2)
		return inherit(argv[2]);
	if (!strcmp(what, "logged"))
		return logged();
	if (!strcmp(what, "exec"))
		return started_again();
	if (!strcmp(what, "audited"))
		return audited();
	if (!strcmp(what, "protected"))
		return protected();
	if (!strcmp(what, "disabled"))
		return modules_disabled();
	if (!strcmp(what, "lockdown"))
		return locked_down();
	check("a gate", my_pid(), getpid());
	return failures != 0;
}
