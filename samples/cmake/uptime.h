/* SPDX-License-Identifier: GPL-2.0-only */
/* What the app may call. */
struct uptime {
	unsigned long long seconds;
	unsigned long long switches; /* between threads, on all processors */
};

struct uptime uptime_now(void);
