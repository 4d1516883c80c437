/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KBRIDGE_INTERNAL_H
#define KBRIDGE_INTERNAL_H

#include <stddef.h>
#include "image.h"

/* error.c: "kbridge: error: NAME: WHATDETAIL", a hint, status 125 */
_Noreturn void kb_fail(const char *name, const char *what, const char *detail, const char *hint);

/* gate.c: a file of the device, with a high number, or -1 with errno */
#define KB_DEVICE "/dev/kelevate"
int kb_open_device(void);

/* params.c: the image's module parameters, from the environment, as insmod takes them */
void kb_params(const char *image, char *args, size_t room);

/* bind.c: no import word is an address of the program's own */
void kb_bind(struct kb_image *program);

/*
 * notes.c: the content of the first ELF note of that name and type, and its length, or NULL; the
 * running kernel's build ID in hex, 0 or -1
 */
const unsigned char *kb_note(const unsigned char *notes, size_t size, const char *name,
			     unsigned int type, size_t *length);
int kb_running_build_id(char *hex, size_t room);

/* symbol.c: the address that libkernel.so has, or 0 */
unsigned long kb_kernel_symbol(const char *name);

/*
 * library.c: the libkernel.so that is loaded is the running kernel's, whose build ID this is, and
 * nobody else's work
 */
void kb_check_library(const struct kb_image *program, const char *build_id);

#endif
