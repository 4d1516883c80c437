// SPDX-License-Identifier: GPL-2.0-only
/*
 * spawn ROUNDS RESULTS COMMAND... [-- COMMAND...]...
 *
 * Runs the commands in turns, ROUNDS times, each to its end, and writes a line for each run: the
 * command's number, nanoseconds from before its start until it has been waited for, and the most
 * memory that it held, in KiB.  COMMAND is [NAME=VALUE]... PROGRAM [WORD]..., with the path of
 * the program.
 *
 * In C and small, since starting a program costs time and memory by the size of who starts it:
 * getrusage()'s figure of a process also has what the process was before it called exec.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MOST 16 /* commands */

struct command {
	char **words;
	char **environment;
};

static long long nanoseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static int is_assignment(const char *word)
{
	return strchr(word, '=') && strcspn(word, "=/") == strcspn(word, "=");
}

static int same_name(const char *one, const char *other)
{
	size_t length = strcspn(one, "=");

	return length == strcspn(other, "=") && !strncmp(one, other, length);
}

/* The environment with the assignments at the start of `words`, and what comes after these. */
static struct command parsed(char **words)
{
	size_t own = 0, more = 0, used, i, k;
	struct command found;

	while (environ[own])
		own++;
	while (words[more] && is_assignment(words[more]))
		more++;
	found.environment = calloc(own + more + 1, sizeof(char *));
	if (!found.environment || !words[more]) {
		fprintf(stderr, "spawn: a command without a program\n");
		exit(2);
	}
	memcpy(found.environment, words, more * sizeof(char *));
	for (i = 0, used = more; i < own; i++) {
		for (k = 0; k < more && !same_name(words[k], environ[i]);)
			k++;
		if (k == more)
			found.environment[used++] = environ[i];
	}
	found.words = words + more;
	return found;
}

static void run(FILE *results, int number, const struct command *command)
{
	long long start = nanoseconds(), end;
	struct rusage usage;
	int error, status;
	pid_t child;

	error = posix_spawn(&child, command->words[0], NULL, NULL, command->words,
			    command->environment);
	if (error) {
		fprintf(stderr, "spawn: %s: %s\n", command->words[0], strerror(error));
		exit(2);
	}
	if (wait4(child, &status, 0, &usage) != child)
		exit(2);
	end = nanoseconds();
	if (status) {
		fprintf(stderr, "spawn: %s ended with wait status %#x\n", command->words[0],
			status);
		exit(1);
	}
	fprintf(results, "%d %lld %ld\n", number, end - start, usage.ru_maxrss);
}

int main(int argc, char **argv)
{
	struct command commands[MOST];
	int count = 0, first = 3, i;
	long round, rounds;
	FILE *results;

	if (argc < 4)
		return 2;
	for (i = first; i <= argc; i++) {
		if (i < argc && strcmp(argv[i], "--"))
			continue;
		if (count == MOST)
			return 2;
		argv[i] = NULL;
		commands[count++] = parsed(argv + first);
		first = i + 1;
	}
	rounds = atol(argv[1]);
	results = fopen(argv[2], "w");
	if (!results) {
		fprintf(stderr, "spawn: %s: %s\n", argv[2], strerror(errno));
		return 2;
	}
	/* forwards, then backwards: what follows what makes no difference over all */
	for (round = 0; round < rounds; round++)
		for (i = 0; i < count; i++) {
			int number = round % 2 ? count - 1 - i : i;

			run(results, number, &commands[number]);
		}
	return fclose(results) != 0;
}
