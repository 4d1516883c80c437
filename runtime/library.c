// SPDX-License-Identifier: GPL-2.0-only
/*
 * Checks the libkernel.so that ld.so has loaded: nobody else can have put it there, and it is of
 * the running kernel.  That it is of this boot is kelevate's to say: it knows where the kernel is.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <linux/capability.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "internal.h"

#define NOTE_KERNEL 1 /* release and build ID, two strings */
#define AGAIN "make it again, as kbridge run does: rm -rf /run/kbridge, then kbridge run PROGRAM"

struct library {
	const struct link_map *map;
	const unsigned char *note;
	size_t size;
};

/* Who may not elevate can do no harm with wrong addresses. */
static int may_elevate(void)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3];

	if (syscall(SYS_capget, &head, caps))
		return 1;
	return caps[CAP_TO_INDEX(CAP_SYS_MODULE)].effective >> (CAP_SYS_MODULE & 31) & 1;
}

/* Whether nobody but root and this user can change what is there. */
static int ours(const char *path, int sticky)
{
	struct stat seen;

	if (stat(path, &seen) || (seen.st_uid && seen.st_uid != geteuid()))
		return 0;
	return !(seen.st_mode & 0022) || (sticky && seen.st_mode & S_ISVTX);
}

/* The file, its folder, and the folders above, of which sticky ones like /tmp will do. */
static int trusted(const char *file)
{
	char path[PATH_MAX], *slash;
	int above = 0;

	if (!realpath(file, path) || !ours(path, 0))
		return 0;
	while ((slash = strrchr(path, '/')) && slash != path) {
		*slash = 0;
		if (!ours(path, above++))
			return 0;
	}
	return ours("/", 1);
}

static int find_note(struct dl_phdr_info *info, size_t size, void *data)
{
	struct library *lib = data;
	int k;

	(void)size;
	if (info->dlpi_addr != lib->map->l_addr || strcmp(info->dlpi_name, lib->map->l_name))
		return 0;
	for (k = 0; !lib->note && k < info->dlpi_phnum; k++)
		if (info->dlpi_phdr[k].p_type == PT_NOTE)
			lib->note = kb_note((void *)(info->dlpi_addr + info->dlpi_phdr[k].p_vaddr),
					    info->dlpi_phdr[k].p_memsz, "kbridge", NOTE_KERNEL,
					    &lib->size);
	return 1;
}

/* The second string of its note, or "". */
static const char *build_id_of(const struct library *lib)
{
	const char *release = (const char *)lib->note;
	size_t length;

	if (!release || !lib->size || release[lib->size - 1])
		return "";
	length = strlen(release) + 1;
	return length < lib->size ? release + length : "";
}

void kb_check_library(const struct kb_image *program, const char *build_id)
{
	void *handle = dlopen("libkernel.so", RTLD_LAZY | RTLD_NOLOAD);
	struct library lib = { 0 };

	if (!handle)
		return; /* a linker script's program has none */
	if (dlinfo(handle, RTLD_DI_LINKMAP, &lib.map))
		kb_fail(program->image.name, "cannot tell where libkernel.so is from", "", AGAIN);
	if (may_elevate() && !trusted(lib.map->l_name))
		kb_fail(program->image.name,
			"others could have written the libkernel.so that it loaded: ",
			lib.map->l_name, "keep it in a folder that only root can write");
	dl_iterate_phdr(find_note, &lib);
	if (strcmp(build_id_of(&lib), build_id))
		kb_fail(program->image.name,
			"libkernel.so is not the running kernel's: ", lib.map->l_name, AGAIN);
	dlclose(handle);
}
