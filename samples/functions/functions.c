// SPDX-License-Identifier: GPL-2.0-only
/* Calls kernel functions of both kinds, and asks a system call or /proc for the same. */
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "functions_kmod.h"

static int wrong;

static void line(const char *function, unsigned long long kernel, const char *other,
		 unsigned long long low, unsigned long long high)
{
	int good = low <= kernel && kernel <= high;

	printf("%-36s %#18llx  %-16s %s\n", function, kernel, other, good ? "the same" : "DIFFERS");
	wrong += !good;
}

static unsigned long long from_kallsyms(const char *name)
{
	unsigned long long address;
	char text[1024], type, found[512];
	FILE *file = fopen("/proc/kallsyms", "r");

	while (file && fgets(text, sizeof(text), file))
		if (sscanf(text, "%llx %c %511s", &address, &type, found) == 3 &&
		    !strcmp(found, name)) {
			fclose(file);
			return address;
		}
	return 0;
}

static unsigned long long from_stat(const char *word)
{
	unsigned long long value = 0;
	char *text = NULL;
	size_t size = 0;
	FILE *file = fopen("/proc/stat", "r");

	while (file && getline(&text, &size, file) > 0)
		if (!strncmp(text, word, strlen(word)))
			value = strtoull(text + strlen(word), NULL, 10);
	free(text);
	if (file)
		fclose(file);
	return value;
}

static unsigned int count_processes(void)
{
	unsigned int count = 0;
	DIR *folder = opendir("/proc");

	for (struct dirent *entry; folder && (entry = readdir(folder));)
		count += isdigit((unsigned char)*entry->d_name) != 0;
	if (folder)
		closedir(folder);
	return count;
}

static void ask_standalone(void)
{
	unsigned long long address = from_kallsyms("ksys_write"), switches = from_stat("ctxt ");
	unsigned long long answer = ask_nr_context_switches();
	unsigned int count;

	puts("standalone functions");
	line("  kallsyms_lookup_name(\"ksys_write\")", ask_kallsyms_lookup_name("ksys_write"),
	     "/proc/kallsyms", address, address);
	line("  nr_context_switches()", answer, "/proc/stat", switches, from_stat("ctxt "));
	/* kernel threads come and go at any time: ask again where one did */
	do {
		count = count_processes();
		answer = (unsigned long long)ask_nr_processes();
	} while (count != count_processes());
	line("  nr_processes()", answer, "folders of /proc", count, count);
}

static int ask_inline(int fd)
{
	struct inline_answers a;
	struct stat status;

	dup(fd);
	if (ask_inline_functions(fd, &a) || fstat(fd, &status))
		return -1;
	puts("inline functions");
	line("  file_inode()", a.inode, "fstat()", status.st_ino, status.st_ino);
	line("  i_size_read()", (unsigned long long)a.size, "fstat()",
	     (unsigned long long)status.st_size, (unsigned long long)status.st_size);
	line("  file_count()", (unsigned long long)a.holders, "open, dup, fget", 3, 3);
	line("  task_tgid_nr()", (unsigned long long)a.pid, "getpid()",
	     (unsigned long long)getpid(), (unsigned long long)getpid());
	line("  task_ppid_nr()", (unsigned long long)a.parent, "getppid()",
	     (unsigned long long)getppid(), (unsigned long long)getppid());
	line("  __kuid_val(), current_uid()", a.uid, "getuid()", getuid(), getuid());
	return 0;
}

int main(void)
{
	char path[] = "/tmp/functions.XXXXXX";
	int fd = mkstemp(path);

	if (fd < 0 || write(fd, path, sizeof(path)) != sizeof(path)) {
		perror(path);
		return 1;
	}
	unlink(path);
	ask_standalone();
	if (ask_inline(fd)) {
		perror("functions");
		return 1;
	}
	return wrong ? 1 : 0;
}
