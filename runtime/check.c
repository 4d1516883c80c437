// SPDX-License-Identifier: GPL-2.0-only
/* The start-up check: kernel release, build ID, and that every kernel symbol was found. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>
#include "internal.h"

#define NOTES "/sys/kernel/notes"
#define REBUILD "build it again for this kernel, or boot the other with kbridge run"
#define COMPARE REBUILD "; kbridge run --other-build tries it here, if nothing that it uses changed"
/*
 * Internal, from kbridge run --other-build: "RELEASE BUILD_ID DIGEST...", the kernel that programs
 * were compared with, and the digest of what each of them uses.
 */
#define COMPARED "KBRIDGE_COMPARED"

/* Whether the next word of *text is this one; goes on behind it. */
static int next_is(const char **text, const char *word)
{
	size_t length = strcspn(*text, " ");
	int same = length && length == strlen(word) && !memcmp(*text, word, length);

	*text += length;
	*text += strspn(*text, " ");
	return same;
}

/* Whether kbridge run compared what this program uses with the kernel that runs now. */
static int compared(const struct kb_image *program, const char *release, const char *build_id)
{
	const char *text = secure_getenv(COMPARED);

	if (!text || !next_is(&text, release) || !next_is(&text, build_id))
		return 0;
	while (*text)
		if (next_is(&text, program->interface))
			return 1;
	return 0;
}

/* `build_id`: the running kernel's, "" where it tells none. */
static void check_kernel(const struct kb_image *program, const char *build_id)
{
	const char *name = program->image.name;
	struct utsname kernel;
	int other, unknown = !*build_id;

	uname(&kernel);
	other = strcmp(kernel.release, program->release);
	if (!unknown && !other && !strcmp(build_id, program->build_id))
		return;
	if (!unknown && compared(program, kernel.release, build_id))
		return;
	if (other)
		kb_fail(name,
			"built for another kernel release than the running one: ", program->release,
			COMPARE);
	if (unknown)
		kb_fail(name, "cannot tell the running kernel's build ID from ", NOTES,
			"mount sysfs on /sys");
	kb_fail(name, "built for another build of this kernel release: ", program->build_id,
		COMPARE);
}

/* An import word that libkernel.so did not fill: kelevate will, if the module is there. */
static void check_module(const char *name, const char *symbol)
{
	const char *module = strstr(symbol, " [");
	char path[128] = "/sys/module/";
	size_t length;

	if (!module)
		kb_fail(name, "the running kernel has no symbol ", symbol, REBUILD);
	module += 2;
	length = strcspn(module, "]");
	if (length < sizeof(path) - strlen(path))
		strncat(path, module, length);
	if (access(path, F_OK))
		kb_fail(name, "needs a module that is not loaded: ", path + strlen("/sys/module/"),
			"load that module first, with modprobe");
}

void kb_register(struct kb_image *program)
{
	const __u64 *imports = (const __u64 *)program->image.imports;
	const char *symbol = (const char *)program->image.import_names;
	char build_id[129];
	__u32 k;

	if (kb_running_build_id(build_id, sizeof(build_id)))
		build_id[0] = 0;
	check_kernel(program, build_id);
	if (!(program->image.flags & KELEVATE_LINKED))
		kb_check_library(program, build_id);
	kb_bind(program);
	for (k = 0; k < program->image.nimports; k++, symbol += strlen(symbol) + 1)
		if (!imports[k] && symbol[0] != '?')
			check_module(program->image.name, symbol);
}
