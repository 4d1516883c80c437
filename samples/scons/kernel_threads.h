/* SPDX-License-Identifier: GPL-2.0-only */
/* Between the two kmod sources. */
struct task_struct;

bool census_is_kernel_thread(const struct task_struct *task);
