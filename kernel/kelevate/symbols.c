// SPDX-License-Identifier: GPL-2.0-only
/*
 * Finds the kernel functions that finish a module.  They are not exported, so a kprobe tells
 * where kallsyms_lookup_name() is, and that finds the rest.  Which of two names a kernel has is
 * asked of the kernel, never derived from its version.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kprobes.h>
#include <linux/rbtree_latch.h>
#include "internal.h"

struct kernel_functions kernel;

static unsigned long (*lookup)(const char *name);

static int find_lookup(void)
{
	struct kprobe probe = { .symbol_name = "kallsyms_lookup_name" };
	int err = register_kprobe(&probe);

	if (err) {
		pr_err("cannot find kallsyms_lookup_name: register_kprobe returned %d\n", err);
		return err;
	}
	lookup = (void *)probe.addr;
	unregister_kprobe(&probe);
	return 0;
}

/* Counted, so that everything that is missing is named, not just the first. */
static unsigned int missing;

static void *need(const char *name)
{
	void *found = (void *)lookup(name);

	if (!found) {
		pr_err("this kernel has no %s\n", name);
		missing++;
	}
	return found;
}

/* The address of a symbol of one module, 0 if it is not loaded or has none of that name. */
unsigned long find_symbol_of_module(const char *module, int length, const char *symbol)
{
	char name[MODULE_NAME_LEN + KSYM_NAME_LEN];

	/* kallsyms_lookup_name() takes "module:symbol" */
	if (snprintf(name, sizeof(name), "%.*s:%s", length, module, symbol) >= sizeof(name))
		return 0;
	return lookup(name);
}

/* Where one is missing, gates work and elevate() says that it does not. */
static void find_ways_to_ring_3(void)
{
	kernel.entry_text = lookup("__entry_text_start");
	kernel.entry_text_end = lookup("__entry_text_end");
	kernel.to_ring3 = lookup("swapgs_restore_regs_and_return_to_usermode");
	/*
	 * ret_from_fork() is the asm code's before Linux commit 3aec4ecb3d1f ("x86: Rewrite
	 * ret_from_fork() in C", v6.5), and C that the asm code calls since
	 */
	kernel.ret_from_fork = lookup("ret_from_fork_asm") ?: lookup("ret_from_fork");
	kernel.sched_process_fork = (void *)lookup("__tracepoint_sched_process_fork");
	kernel.local_timer_entry = (void *)lookup("__tracepoint_local_timer_entry");
}

#define NEED(field) (kernel.field = need(#field))

int find_kernel_functions(void)
{
	int err = find_lookup();

	if (err)
		return err;
	NEED(set_memory_ro);
	NEED(set_memory_x);
	NEED(mod_tree_insert);
	NEED(mod_tree_remove);
	NEED(module_finalize);
	NEED(module_bug_finalize);
	NEED(module_bug_cleanup);
	NEED(jump_label_module_notify);
	NEED(static_call_module_notify);
	NEED(srcu_module_notify);
	NEED(sort_extable);
	NEED(parse_args);
	NEED(module_param_sysfs_setup);
	NEED(module_param_sysfs_remove);
	NEED(module_destroy_params);
	NEED(mod_tree);
	NEED(module_mutex);
	NEED(modules_disabled);
	NEED(module_kset);
	NEED(module_ktype);
	NEED(__module_address);
	NEED(kallsyms_show_value);

	/* an empty weak function in some kernels, then it is left out of the image */
	kernel.module_arch_cleanup = (void *)lookup("module_arch_cleanup");

	/* of kernels without CONFIG_SECURITY_LOCKDOWN_LSM: not there */
	kernel.kernel_locked_down = (void *)lookup("kernel_locked_down");

	/* of kernels without CONFIG_TRACING, CONFIG_KPROBES: not there */
	kernel.module_trace_bprintk_format_notify =
		(void *)lookup("module_trace_bprintk_format_notify");
	kernel.kprobes_module_callback = (void *)lookup("kprobes_module_callback");

	/*
	 * execmem_alloc() took the place of module_alloc() with Linux commit 12af2b83d0b1
	 * ("mm: introduce execmem_alloc() and execmem_free()", v6.10).
	 */
	kernel.execmem_alloc = (void *)lookup("execmem_alloc");
	if (!kernel.execmem_alloc)
		NEED(module_alloc);

	/*
	 * pcpu_alloc() became pcpu_alloc_noprof() with Linux commit 24e44cc22aa3 ("mm: percpu:
	 * enable per-cpu allocation tagging", v6.10).
	 */
	kernel.pcpu_alloc = (void *)lookup("pcpu_alloc_noprof");
	if (!kernel.pcpu_alloc)
		NEED(pcpu_alloc);

	find_ways_to_ring_3();
	kernel.text = (unsigned long)need("_text");
	return missing ? -ENOENT : 0;
}
