// SPDX-License-Identifier: GPL-2.0-only
/*
 * Calls libc's functions whose names the kernel has too, has its kmod call the kernel's, and
 * prints where each name went; C and C++, a program or (NAMES_LIBRARY) a library.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <aio.h>
#include <dlfcn.h>
#include <errno.h>
#include <error.h>
#include <fcntl.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>
#include "names_kmod.h"
#include "slots.h"

#ifdef __cplusplus
#define C_NAME extern "C"
#else
#define C_NAME extern
#endif

C_NAME int names_check(void);

/* for C++, glibc 2.36 has no declaration of it; and the headers rename the other two */
C_NAME int pidfd_getfd(int process, int file, unsigned int flags) __THROW;
C_NAME int plain_sscanf(const char *text, const char *format, ...) __asm__("sscanf");
C_NAME int plain_vsscanf(const char *text, const char *format, va_list words) __asm__("vsscanf");

#define NAME(name) C_NAME char user_##name[] __asm__(#name);
#define DATA NAME
#include "names.def"
#undef NAME

#define NAME(name) { #name, user_##name },
static struct {
	const char *name;
	const void *address;
} table[] = {
#include "names.def"
};

static FILE *out;
static int made;

#define RIGHT(what)                                                          \
	do {                                                                 \
		made++;                                                      \
		if (!(what))                                                 \
			fprintf(out, "FAIL line %d: %s\n", __LINE__, #what); \
	} while (0)

static int printed(char *text, const char *format, ...)
{
	va_list words;
	int length;

	va_start(words, format);
	length = vsnprintf(text, 64, format, words);
	va_end(words);
	va_start(words, format);
	length += vsprintf(text, format, words);
	va_end(words);
	return length;
}

static int scanned(const char *text, const char *format, ...)
{
	va_list words;
	int count;

	va_start(words, format);
	count = plain_vsscanf(text, format, words);
	va_end(words);
	return count;
}

static int compare(const void *a, const void *b)
{
	return *(const char *)a - *(const char *)b;
}

static void memory_calls(char *a, char *b)
{
	char letters[] = "abcd", wanted = 'c';

	RIGHT(memset(a, 'x', 8) == a && a[7] == 'x');
	RIGHT(memcpy(b, "one two", 8) == b);
	RIGHT(memmove(b + 1, b, 7) == b + 1 && b[1] == 'o' && b[7] == 'o');
	RIGHT(memcmp(a, "xxxx", 4) == 0 && memcmp(a, "xxxa", 4) > 0);
	RIGHT(bcmp(a, "xxxx", 4) == 0);
	RIGHT(memchr(b, 't', 8) == b + 5);
	RIGHT(bsearch(&wanted, letters, 4, 1, compare) == letters + 2);
}

static void string_calls(char *a, char *b)
{
	char *rest = a;

	RIGHT(strcpy(a, "Ab") == a);
	RIGHT(strcat(a, "cd") == a);
	RIGHT(strncat(a, "efgh", 1) == a && strlen(a) == 5);
	RIGHT(strnlen(a, 3) == 3);
	RIGHT(strcmp(a, "Abcde") == 0);
	RIGHT(strncmp(a, "Abx", 2) == 0);
	RIGHT(strcasecmp(a, "aBCDE") == 0);
	RIGHT(strncasecmp(a, "ABX", 2) == 0);
	RIGHT(strchr(a, 'c') == a + 2);
	RIGHT(strchrnul(a, 'z') == a + 5);
	RIGHT(strrchr(a, 'e') == a + 4);
	RIGHT(strstr(a, "cd") == a + 2);
	RIGHT(strpbrk(a, "dc") == a + 2);
	RIGHT(strspn(a, "bA") == 2);
	RIGHT(strcspn(a, "d") == 3);
	RIGHT(stpcpy(b, "xyz") == b + 3);
	RIGHT(strncpy(b, "q", 3) == b && b[2] == 0);
	RIGHT(strsep(&rest, "c") == a && rest == a + 3);
}

static void print_calls(char *a, char *b)
{
	int x = 0, y = 0;

	RIGHT(snprintf(a, 64, "%d %s", 42, "it") == 5 && a[1] == '2');
	RIGHT(sprintf(a, "%04x", 0xabc) == 4 && a[0] == '0');
	RIGHT(printed(b, "%ps", (void *)16) == 10 && strcmp(b, "0x10s") == 0); /* not a symbol */
	RIGHT(plain_sscanf("17 18", "%d %d", &x, &y) == 2 && x == 17 && y == 18);
	RIGHT(scanned("19", "%d", &x) == 1 && x == 19);
}

static void file_calls(void)
{
	int file = eventfd(0, 0);
	struct aiocb request = {};
	eventfd_t value = 0;

	RIGHT(eventfd_write(file, 3) == 0);
	RIGHT(eventfd_read(file, &value) == 0 && value == 3);
	close(file);
	RIGHT(getxattr("/nowhere", "user.x", NULL, 0) == -1 && errno == ENOENT);
	RIGHT(listxattr("/nowhere", NULL, 0) == -1 && errno == ENOENT);
	RIGHT(mount("none", "/nowhere", "nothing", 0, NULL) == -1);
	RIGHT(pidfd_getfd(-1, 0, 0) == -1 && errno == EBADF);
	RIGHT(shm_open("/kbridge-nothing", O_RDONLY, 0) == -1 && errno == ENOENT);
	RIGHT(sync_file_range(-1, 0, 0, 0) == -1 && errno == EBADF);
	request.aio_fildes = -1;
	request.aio_reqprio = -1;
	RIGHT(aio_read(&request) == -1 && errno == EINVAL);
	RIGHT(aio_write(&request) == -1 && errno == EINVAL);
	RIGHT(aio_fsync(12345, &request) == -1 && errno == EINVAL);
}

static void on_signal(int number)
{
	(void)number;
}

static void process_calls(void)
{
	struct rusage usage;
	struct timespec interval;
	struct sched_param priority = { 99 };
	sigset_t one, before;
	cpu_set_t cpus;
	timer_t timer;
	sem_t semaphore;
	int status = 0;
	pid_t child;

	RIGHT(getrusage(RUSAGE_SELF, &usage) == 0);
	RIGHT(sched_getaffinity(0, sizeof(cpus), &cpus) == 0);
	RIGHT(sched_setaffinity(0, sizeof(cpus), &cpus) == 0);
	RIGHT(sched_setscheduler(0, 12345, &priority) == -1 && errno == EINVAL);
	RIGHT(sched_rr_get_interval(0, &interval) == 0);
	RIGHT(sem_init(&semaphore, 0, 1) == 0);
	sem_destroy(&semaphore);
	timer_create(CLOCK_MONOTONIC, NULL, &timer);
	RIGHT(timer_delete(timer) == 0);
	sigemptyset(&one);
	sigaddset(&one, SIGUSR1);
	RIGHT(sigprocmask(SIG_BLOCK, &one, &before) == 0);
	signal(SIGUSR1, on_signal);
	raise(SIGUSR1);
	RIGHT(sigsuspend(&before) == -1 && errno == EINTR);
	sigprocmask(SIG_SETMASK, &before, NULL);
	fflush(out);
	child = fork();
	if (!child) {
		close(STDERR_FILENO);
		error(0, 0, "said by libc");
		abort();
	}
	RIGHT(waitpid(child, &status, 0) == child && WIFSIGNALED(status) &&
	      WTERMSIG(status) == SIGABRT);
	made++; /* error() too */
}

static void print_kernel_addresses(int from_code)
{
	unsigned long addresses[MANY_NAMES];
	int count = kernel_addresses(addresses, from_code), k;

	for (k = 0; k < count; k++)
		fprintf(out, "kernel %s %s %lx\n", from_code ? "code" : "data", table[k].name,
			addresses[k]);
}

int names_check(void)
{
	char a[64], b[64];
	unsigned int k;

	if (!out)
		out = stdout;
	fprintf(out, "before\n");
	print_slots(out);
	memory_calls(a, b);
	string_calls(a, b);
	print_calls(a, b);
	file_calls();
	process_calls();
	print_kernel_addresses(0);
	print_kernel_addresses(1);
	kernel_text(a, sizeof(a));
	fprintf(out, "calls %d kernel %d text %s\n", made, kernel_calls(), a);
	for (k = 0; k < sizeof(table) / sizeof(table[0]); k++)
		fprintf(out, "address %s %lx\nlookup %s %lx\n", table[k].name,
			(unsigned long)table[k].address, table[k].name,
			(unsigned long)dlsym(RTLD_DEFAULT, table[k].name));
	fprintf(out, "after\n");
	print_slots(out);
	fprintf(out, "end\n");
	fflush(out);
	return 0;
}

#ifdef NAMES_LIBRARY
/* for LD_PRELOAD: at the program's end, wherever it has sent its output by then */
__attribute__((constructor)) static void at_start(void)
{
	if (getenv("NAMES_AT_END"))
		out = fdopen(fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 100), "w");
}

__attribute__((destructor)) static void at_end(void)
{
	if (getenv("NAMES_AT_END"))
		names_check();
}
#else
int main(void)
{
	return names_check();
}
#endif
