/* SPDX-License-Identifier: GPL-2.0-only */
/* Between libkbridge and the generated gates (templates/gates.S.j2); not for programs. */
#ifndef KBRIDGE_IMAGE_H
#define KBRIDGE_IMAGE_H

#include <kelevate.h>

struct kb_image {
	long fd;	      /* of /dev/kelevate; gates read it; -1: none yet */
	unsigned long lock;   /* process and thread that sets the image up, 0: nobody */
	long mapped;	      /* the process sees the instance's own pages */
	const char *release;  /* of the kernel that it was built for */
	const char *build_id; /* of that kernel, in hex */
	struct kelevate_image image;
	const char *interface; /* digest of what it uses of that kernel's interface, or "" */
};

/* Constructor: the kernel is the one that the image was built for, or the program ends here. */
void kb_register(struct kb_image *program);

/*
 * Destructor, of a library that is unloaded or a program that ends: lets go of the file.  A gate
 * after it finds the instance through the mapping, which goes with the library.
 */
void kb_unregister(struct kb_image *program);

/*
 * A gate's call did not take place; `result` is what lseek() returned (negative errno).  Sets up
 * what was missing and returns, or ends the program with status 125 and one line on stderr.
 */
void kb_first_gate(struct kb_image *program, long result);

#endif
