/* SPDX-License-Identifier: GPL-2.0-only */
/* What the app may call. */
struct load {
	unsigned int processors;
	unsigned long hundredths; /* of the load average of the last minute */
};

struct load load_now(void);
