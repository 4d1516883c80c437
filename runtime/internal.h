/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KBRIDGE_INTERNAL_H
#define KBRIDGE_INTERNAL_H

#include <stddef.h>
#include "image.h"

/* error.c: "kbridge: error: NAME: WHATDETAIL", a hint, status 125 */
_Noreturn void kb_fail(const char *name, const char *what, const char *detail, const char *hint);

/* params.c: the image's module parameters, from the environment, as insmod takes them */
void kb_params(const char *image, char *args, size_t room);

/* bind.c: no import word is an address of the program's own */
void kb_bind(struct kb_image *program);

#endif
