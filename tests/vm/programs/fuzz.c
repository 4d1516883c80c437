// SPDX-License-Identifier: GPL-2.0-only
/*
 * Throws ioctls at /dev/kelevate from several threads: random commands, sizes and pointers, and
 * images that are almost right.  fuzz SECONDS [SEED].
 *
 * What loads is never called, and has no module_init().  The kernel walks the tables of special
 * sections and follows what it finds, as it does for a module's: so an image whose bytes or
 * records are changed has no tables here.
 */
#include "raw.h"
#include <pthread.h>
#include <sys/mman.h>
#include <time.h>
#include "fuzz_kmod.h"

#define THREADS 4
#define FILES 4

struct state {
	unsigned long seed;
	unsigned long done, loaded, attached;
	unsigned long errors[134]; /* by errno */
	int files[FILES];
	char *holes; /* pages, of which every other one is not there */
	char *room;  /* for images that are changed */
};

static time_t end;
static unsigned long first_seed, fresh;

/* xorshift64* */
static unsigned long next(struct state *s)
{
	s->seed ^= s->seed >> 12;
	s->seed ^= s->seed << 25;
	s->seed ^= s->seed >> 27;
	return s->seed * 2685821657736338717ul;
}

static unsigned long below(struct state *s, unsigned long n)
{
	return next(s) % n;
}

static int chance(struct state *s, unsigned int in)
{
	return !below(s, in);
}

/* A number at which something may break. */
static unsigned long number(struct state *s)
{
	static const unsigned long edges[] = {
		0,
		1,
		7,
		8,
		4095,
		4096,
		4097,
		8192,
		0x7fffffff,
		0x80000000,
		0xffffffff,
		1ul << 32,
		1 << 16,
		1 << 20,
		1 << 22,
		1 << 26,
		64u << 20,
		-1ul,
		-8ul,
		-4096ul,
		1ul << 47,
		1ul << 63,
		0xffffffff80000000,
	};

	if (chance(s, 2))
		return edges[below(s, sizeof(edges) / sizeof(edges[0]))];
	return next(s) >> below(s, 64);
}

/* An address that is wrong in one of the ways there are. */
static unsigned long pointer(struct state *s)
{
	switch (below(s, 6)) {
	case 0:
		return number(s);
	case 1:
		return 0xffffffff81000000 + below(s, 1 << 24); /* the kernel's */
	case 2:
		return (unsigned long)s->holes + below(s, 8 * 4096);
	case 3:
		return (unsigned long)s->holes + 4096 - below(s, 256); /* into the hole */
	case 4:
		return own->image.content + below(s, own->image.end);
	default:
		return (unsigned long)&s->seed;
	}
}

static int file(struct state *s)
{
	int *fd = &s->files[below(s, FILES)];

	if (*fd < 0 || chance(s, 8)) {
		if (*fd >= 0)
			close(*fd);
		*fd = open(DEVICE, O_RDWR);
	}
	return *fd;
}

static void note(struct state *s, int error)
{
	s->done++;
	if (error >= 0 && error < 134)
		s->errors[error]++;
}

static void any_command(struct state *s)
{
	unsigned long command = next(s), arg = chance(s, 2) ? number(s) : pointer(s);

	if (chance(s, 2)) /* ours, with another direction, size or number */
		command = _IOC(below(s, 4), 0xb8, below(s, 6), below(s, 1 << 14));
	/* it does what it is told */
	if ((unsigned int)command == KELEVATE_INVOKE || (unsigned int)command == KELEVATE_ELEVATE)
		command = KELEVATE_COUNT;
	note(s, raw(file(s), command, arg));
}

/* Gates that are not there, or of an image that the file does not hold. */
static void wrong_gate(struct state *s)
{
	unsigned long index = own->image.ngates + below(s, 65536 - own->image.ngates);
	unsigned long arg = own->image.content << 4 | (index & 0xffff);

	note(s, raw_gate(own->fd, arg));
	note(s, raw_gate(file(s), own->image.content << 4));
}

static void attach(struct state *s)
{
	int error = raw(file(s), KELEVATE_ATTACH,
			chance(s, 2) ? pointer(s) : own->image.content + below(s, own->image.end));

	s->attached += !error;
	note(s, error);
}

/*
 * Adaptors that are left out would be missed, so what is right is for the next exec, which never
 * comes; or for now, with all of them, from a page of zeros.
 */
static void elevate(struct state *s)
{
	struct kelevate_elevation elevation = { number(s), number(s), number(s) };
	unsigned long arg = pointer(s);

	if (!(elevation.flags & ~KELEVATE_ELEVATION_FLAGS))
		elevation.flags |= KELEVATE_PROGRAM;
	if (chance(s, 2) || (arg & ~0xffful) == ((unsigned long)&s->seed & ~0xffful) ||
	    arg - own->image.content < own->image.end)
		arg = (unsigned long)&elevation;
	note(s, raw(file(s), KELEVATE_ELEVATE, arg));
	note(s, raw(file(s), KELEVATE_COUNT, pointer(s)));
}

/* A function that is none of the kernel's, or words that are not there. */
static void invoke(struct state *s)
{
	struct kelevate_invocation invocation = { .function = number(s) & ~(1ul << 63) };
	unsigned long at = (unsigned long)s->holes + 4096 - below(s, sizeof(invocation));

	if (invocation.function >> 47)
		invocation.function = next(s) >> 18;
	note(s, raw(file(s), KELEVATE_INVOKE, chance(s, 2) ? at : (unsigned long)&invocation));
}

static void map(struct state *s)
{
	unsigned long size = (1 + below(s, 64)) * 4096;
	int fd = chance(s, 2) ? own->fd : file(s);
	char *at = mmap(NULL, size, chance(s, 4) ? number(s) & 7 : PROT_READ,
			chance(s, 2) ? MAP_SHARED : MAP_PRIVATE, fd, below(s, 64) * 4096);

	note(s, at == MAP_FAILED ? errno : 0);
	if (at == MAP_FAILED)
		return;
	note(s, madvise(at, size, below(s, 24)) ? errno : 0);
	note(s, mprotect(at, 4096, number(s) & 7) ? errno : 0);
	munmap(at, size);
}

static void noise(struct state *s)
{
	struct kelevate_image image;
	unsigned char *bytes = (unsigned char *)&image;
	size_t k;

	for (k = 0; k < sizeof(image); k++)
		bytes[k] = next(s);
	if (!chance(s, 4)) {
		image.abi = KELEVATE_ABI;
		image.size = sizeof(image);
		image.name[sizeof(image.name) - 1] = 0;
	}
	image.init = image.exit = 0;
	note(s, raw(file(s), KELEVATE_LOAD, (unsigned long)&image));
}

static void *copy(char **room, __u64 from, size_t size)
{
	void *to = *room;

	memcpy(to, (void *)(uintptr_t)from, size);
	*room += (size + 4095) & ~4095ul;
	return to;
}

/* A copy of the program's own image, every array with it, at an address of its own. */
static void copy_image(struct state *s, struct kelevate_image *image)
{
	char *room = s->room;

	*image = own->image;
	image->content = (uintptr_t)copy(&room, fresh, image->end);
	image->imports = (uintptr_t)copy(&room, image->imports, image->nimports * 8);
	image->import_names = (uintptr_t)copy(&room, image->import_names, image->import_names_size);
	image->records = (uintptr_t)copy(&room, image->records, image->nrecords * 24);
	image->gates = (uintptr_t)copy(&room, image->gates, image->ngates * 8);
	image->tables = (uintptr_t)copy(&room, image->tables, KELEVATE_TABLES * 8);
	image->symbols = (uintptr_t)copy(&room, image->symbols, image->nsymbols * 24);
	image->strings = (uintptr_t)copy(&room, image->strings, image->strings_size);
	image->args = 0;
	image->init = image->exit = 0;
	image->flags = KELEVATE_LINKED & own->image.flags;
}

static void change(struct state *s, __u64 array, size_t size)
{
	unsigned char *bytes = (unsigned char *)(uintptr_t)array;
	unsigned int times = 1 + below(s, 8);

	while (size && times--) {
		unsigned long word = number(s);

		memcpy(bytes + below(s, size) / 8 * 8, &word, 8); /* arrays end in a page of ours */
	}
}

/* The fields behind the addresses: edges, counts, sizes. */
static void change_numbers(struct state *s, struct kelevate_image *image)
{
	__u32 *first = &image->text_end, *last = &image->flags;

	first[below(s, last - first + 1)] = number(s);
	image->init = image->exit = 0;
	image->flags &= ~KELEVATE_CALLED_BACK; /* it would stay for good */
}

/* No tables: what is in it is changed at will. */
static void changed_image(struct state *s, struct kelevate_image *image)
{
	__u64 arrays[] = { image->content, image->imports, image->import_names, image->records,
			   image->gates,   image->symbols, image->strings };
	size_t sizes[] = { image->end,		 image->nimports * 8, image->import_names_size,
			   image->nrecords * 24, image->ngates * 8,   image->nsymbols * 24,
			   image->strings_size };
	unsigned int k = below(s, 7);

	memset((void *)(uintptr_t)image->tables, 0, KELEVATE_TABLES * 8);
	if (chance(s, 2))
		change(s, arrays[k], sizes[k]);
	if (chance(s, 2))
		change_numbers(s, image);
	if (chance(s, 8))
		image->args = pointer(s);
	if (chance(s, 16))
		image->name[below(s, sizeof(image->name))] = next(s);
}

/* Its tables are the kernel's to walk: out of bounds, or not there, but never elsewhere. */
static void whole_image(struct state *s, struct kelevate_image *image)
{
	struct kelevate_range *tables = (void *)(uintptr_t)image->tables;
	__u64 *pointers = &image->content;
	unsigned int k = below(s, 10);

	if (chance(s, 4))
		return;
	if (chance(s, 2)) {
		tables += below(s, KELEVATE_TABLES);
		tables->offset = image->end - below(s, 2);
		tables->size = 2 + below(s, 1 << 20);
	} else if (k == 8) {
		image->args = pointer(s);
	} else {
		pointers[k % 8] = (unsigned long)s->holes + 4096 - below(s, 8);
	}
}

static void almost(struct state *s)
{
	struct kelevate_image image;
	int fd = file(s), error;

	copy_image(s, &image);
	if (chance(s, 3))
		whole_image(s, &image);
	else
		changed_image(s, &image);
	error = raw(fd, KELEVATE_LOAD, (unsigned long)&image);
	s->loaded += !error;
	note(s, error);
}

static void *work(void *data)
{
	static void (*const ways[])(struct state *) = { any_command, wrong_gate, attach, map,
							noise,	     elevate,	 invoke, almost,
							almost,	     almost };
	struct state *s = data;
	int k;

	for (k = 0; k < FILES; k++)
		s->files[k] = -1;
	s->holes = mmap(NULL, 8 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	s->room = mmap(NULL, 16 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (k = 1; k < 8; k += 2)
		munmap(s->holes + k * 4096, 4096);
	while (time(NULL) < end)
		ways[below(s, sizeof(ways) / sizeof(ways[0]))](s);
	for (k = 0; k < FILES; k++)
		if (s->files[k] >= 0)
			close(s->files[k]);
	return NULL;
}

static void report(const struct state *states)
{
	struct state sum = { 0 };
	int k, e;

	for (k = 0; k < THREADS; k++) {
		sum.done += states[k].done;
		sum.loaded += states[k].loaded;
		sum.attached += states[k].attached;
		for (e = 0; e < 134; e++)
			sum.errors[e] += states[k].errors[e];
	}
	printf("%lu calls, %lu images loaded, %lu attached\n", sum.done, sum.loaded, sum.attached);
	for (e = 0; e < 134; e++)
		if (sum.errors[e])
			printf("%s: %lu\n", e ? strerrorname_np(e) : "none", sum.errors[e]);
}

int main(int argc, char **argv)
{
	static struct state states[THREADS];
	pthread_t threads[THREADS];
	int k;

	first_seed = argc > 2 ? strtoul(argv[2], NULL, 0) : (unsigned long)time(NULL);
	printf("seed %lu\n", first_seed);
	fflush(stdout);
	/* its content as it is before kelevate maps the live one over it */
	fresh = (uintptr_t)malloc(own->image.end);
	memcpy((void *)fresh, (void *)own->image.content, own->image.end);
	if (five() != 5)
		return 1;
	end = time(NULL) + (argc > 1 ? atoi(argv[1]) : 1);
	for (k = 0; k < THREADS; k++) {
		states[k].seed = (first_seed + k + 1) * 0x9e3779b97f4a7c15ul | 1;
		pthread_create(&threads[k], NULL, work, &states[k]);
	}
	for (k = 0; k < THREADS; k++)
		pthread_join(threads[k], NULL);
	report(states);
	return five() != 5;
}
