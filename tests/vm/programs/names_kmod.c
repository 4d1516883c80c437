// SPDX-License-Identifier: GPL-2.0-only
/* Uses the kernel's functions whose names glibc has too: by address, and by calling them. */
#include <linux/kernel.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include "names_kmod.h"

/* under other names, so that no macro, inline function or builtin of the compiler comes between */
#define NAME(name) extern const char kernel_##name[] __asm__(#name);
#define DATA NAME
#include "names.def"
#undef NAME

#define NAME(name) kernel_##name,
static const void *const in_data[] = {
#include "names.def"
};
#undef NAME

#define NAME(name) *p++ = (unsigned long)kernel_##name;
static void from_code_to(volatile unsigned long *p)
{
#include "names.def"
}

int kernel_addresses(unsigned long *user, int from_code)
{
	int count = ARRAY_SIZE(in_data);
	unsigned long *list = kmalloc_array(count, sizeof(*list), GFP_KERNEL);
	int error;

	if (!list)
		return -ENOMEM;
	if (from_code)
		from_code_to(list);
	else
		memcpy(list, in_data, sizeof(in_data));
	error = copy_to_user((void __user *)user, list, count * sizeof(*list)) ? -EFAULT : 0;
	kfree(list);
	return error ?: count;
}

#define K(result, name, ...) extern result k_##name(__VA_ARGS__) __asm__(#name)
K(int, bcmp, const void *, const void *, size_t);
K(void *, memchr, const void *, int, size_t);
K(int, memcmp, const void *, const void *, size_t);
K(void *, memcpy, void *, const void *, size_t);
K(void *, memmove, void *, const void *, size_t);
K(void *, memset, void *, int, size_t);
K(char *, stpcpy, char *, const char *);
K(int, strcasecmp, const char *, const char *);
K(char *, strcat, char *, const char *);
K(char *, strchr, const char *, int);
K(char *, strchrnul, const char *, int);
K(int, strcmp, const char *, const char *);
K(char *, strcpy, char *, const char *);
K(size_t, strcspn, const char *, const char *);
K(size_t, strlen, const char *);
K(int, strncasecmp, const char *, const char *, size_t);
K(char *, strncat, char *, const char *, size_t);
K(int, strncmp, const char *, const char *, size_t);
K(char *, strncpy, char *, const char *, size_t);
K(size_t, strnlen, const char *, size_t);
K(char *, strpbrk, const char *, const char *);
K(char *, strrchr, const char *, int);
K(char *, strsep, char **, const char *);
K(size_t, strspn, const char *, const char *);
K(char *, strstr, const char *, const char *);
K(int, snprintf, char *, size_t, const char *, ...);
K(int, sprintf, char *, const char *, ...);
K(int, sscanf, const char *, const char *, ...);
K(int, vsnprintf, char *, size_t, const char *, va_list);
K(int, vsprintf, char *, const char *, va_list);
K(int, vsscanf, const char *, const char *, va_list);
K(void *, bsearch, const void *, const void *, size_t, size_t, int (*)(const void *, const void *));

static int printed(char *text, const char *format, ...)
{
	va_list words;
	int length;

	va_start(words, format);
	length = k_vsnprintf(text, 64, format, words);
	va_end(words);
	va_start(words, format);
	length += k_vsprintf(text, format, words);
	va_end(words);
	return length;
}

static int scanned(const char *text, const char *format, ...)
{
	va_list words;
	int count;

	va_start(words, format);
	count = k_vsscanf(text, format, words);
	va_end(words);
	return count;
}

static int compare(const void *a, const void *b)
{
	return *(const char *)a - *(const char *)b;
}

#define RIGHT(what)                       \
	do {                              \
		if (!(what))              \
			return -__LINE__; \
		count++;                  \
	} while (0)

static int memory_calls(char *a, char *b, int count)
{
	RIGHT(k_memset(a, 'x', 8) == a && a[7] == 'x');
	RIGHT(k_memcpy(b, "one two", 8) == b);
	RIGHT(k_memmove(b + 1, b, 7) == b + 1 && b[1] == 'o' && b[7] == 'o');
	RIGHT(k_memcmp(a, "xxxx", 4) == 0 && k_memcmp(a, "xxxa", 4) > 0);
	RIGHT(k_bcmp(a, "xxxx", 4) == 0);
	RIGHT(k_memchr(b, 't', 8) == b + 5);
	RIGHT(k_bsearch("c", "abcd", 4, 1, compare) != NULL);
	return count;
}

static int string_calls(char *a, char *b, int count)
{
	char *rest = a;

	RIGHT(k_strcpy(a, "Ab") == a);
	RIGHT(k_strcat(a, "cd") == a);
	RIGHT(k_strncat(a, "efgh", 1) == a && k_strlen(a) == 5);
	RIGHT(k_strlen(a) == 5);
	RIGHT(k_strnlen(a, 3) == 3);
	RIGHT(k_strcmp(a, "Abcde") == 0);
	RIGHT(k_strncmp(a, "Abx", 2) == 0);
	RIGHT(k_strcasecmp(a, "aBCDE") == 0);
	RIGHT(k_strncasecmp(a, "ABX", 2) == 0);
	RIGHT(k_strchr(a, 'c') == a + 2);
	RIGHT(k_strchrnul(a, 'z') == a + 5);
	RIGHT(k_strrchr(a, 'e') == a + 4);
	RIGHT(k_strstr(a, "cd") == a + 2);
	RIGHT(k_strpbrk(a, "dc") == a + 2);
	RIGHT(k_strspn(a, "bA") == 2);
	RIGHT(k_strcspn(a, "d") == 3);
	RIGHT(k_stpcpy(b, "xyz") == b + 3);
	RIGHT(k_strncpy(b, "q", 3) == b && b[2] == 0);
	RIGHT(k_strsep(&rest, "c") == a && rest == a + 3);
	return count;
}

static int print_calls(char *a, char *b, int count)
{
	int x = 0, y = 0;

	RIGHT(k_snprintf(a, 64, "%d %s", 42, "it") == 5 && a[1] == '2');
	RIGHT(k_sprintf(a, "%04x", 0xabc) == 4 && a[0] == '0');
	RIGHT(printed(b, "%ps", schedule) == 16 && b[0] == 's');
	count++; /* two functions */
	RIGHT(k_sscanf("17 18", "%d %d", &x, &y) == 2 && x == 17 && y == 18);
	RIGHT(scanned("19", "%d", &x) == 1 && x == 19);
	return count;
}

int kernel_calls(void)
{
	char a[64], b[64];
	int count = memory_calls(a, b, 0);

	if (count > 0)
		count = string_calls(a, b, count);
	return count > 0 ? print_calls(a, b, count) : count;
}

int kernel_text(char *user, unsigned long size)
{
	char text[64];
	int length = k_snprintf(text, sizeof(text), "%ps", schedule);

	if (length >= size)
		return -ENOSPC;
	return copy_to_user((void __user *)user, text, length + 1) ? -EFAULT : length;
}
