/* SPDX-License-Identifier: GPL-2.0-only */
/* What image.S has for kelevate_test.c. */
#ifndef SELFTEST_H
#define SELFTEST_H

/* A small image, laid out as kelevate takes it: text | read-only data | data, a page each. */
#define IMAGE_TEXT_END 4096
#define IMAGE_RODATA_END 8192
#define IMAGE_END 12288

extern char image[IMAGE_END];
/* in it: its functions */
extern char image_add[], image_count[], image_seventh[], image_where[], image_fails[];
/* and its data: how often image_count() was called, and a pointer to that number */
extern char image_counter[], image_pointer[];

/* The registers after a gate's system call. */
struct answer {
	long rax;
	unsigned long rdi, rdx, rsi;
};

/* A gate by hand: lseek(fd, which, KELEVATE_CALL), seven words where kelevate looks for them. */
void raw_gate(int fd, unsigned long which, const unsigned long words[7], struct answer *answer);

#endif
