// SPDX-License-Identifier: GPL-2.0-only
/* ELF notes: the running kernel's, and those of files that kbridge wrote. */
#include <elf.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include "internal.h"

#define NOTES "/sys/kernel/notes"

static size_t align4(size_t size)
{
	return (size + 3) & ~(size_t)3;
}

const unsigned char *kb_note(const unsigned char *notes, size_t size, const char *name,
			     unsigned int type, size_t *length)
{
	Elf64_Nhdr note;
	size_t at = 0;

	while (at + sizeof(note) <= size) {
		size_t named = at + sizeof(note), value;

		memcpy(&note, notes + at, sizeof(note));
		value = named + align4(note.n_namesz);
		if (value > size || note.n_descsz > size - value)
			return NULL;
		at = value + align4(note.n_descsz);
		if (note.n_type == type && note.n_namesz == strlen(name) + 1 &&
		    !memcmp(notes + named, name, note.n_namesz)) {
			*length = note.n_descsz;
			return notes + value;
		}
	}
	return NULL;
}

int kb_running_build_id(char *hex, size_t room)
{
	static const char digits[] = "0123456789abcdef";
	unsigned char notes[4096];
	const unsigned char *id;
	size_t length, k;
	ssize_t size;
	int fd = open(NOTES, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -1;
	size = read(fd, notes, sizeof(notes));
	close(fd);
	id = size < 0 ? NULL : kb_note(notes, size, "GNU", NT_GNU_BUILD_ID, &length);
	if (!id || 2 * length >= room)
		return -1;
	for (k = 0; k < length; k++) {
		hex[2 * k] = digits[id[k] >> 4];
		hex[2 * k + 1] = digits[id[k] & 15];
	}
	hex[2 * k] = 0;
	return 0;
}
