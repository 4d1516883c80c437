/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KELEVATE_INTERNAL_H
#define KELEVATE_INTERNAL_H

#include <linux/module.h>
#include <linux/elf.h>
#include <linux/kref.h>
#include <linux/security.h>
#include <linux/tracepoint-defs.h>
#include <linux/workqueue.h>
#include "kelevate.h"

/* One loaded image. */
struct instance {
	struct kref users; /* open files */
	struct delayed_work ending;
	struct waiter *waiting; /* for the first try */
	unsigned long retry;	/* jiffies to the next one */
	u64 content;		/* the image's address in the program: which image it is */
	void *base;		/* in the module area; NULL before allocation */
	struct module *mod;	/* behind the image: THIS_MODULE is a 32-bit immediate */
	void __percpu *percpu;
	struct mod_kallsyms names;
	struct module **needs; /* modules whose symbols it uses, held; one entry an import */
	u32 nneeds;
	u32 text_end, rodata_end, end;
	u32 init, exit;
	bool finished; /* known to the kernel's tables */
	bool in_sysfs;
	bool called_back; /* KELEVATE_CALLED_BACK */
	int init_result;  /* of module_init(), negative: failed; 0 also where there is none */
	u32 ngates;
	struct kelevate_gate gates[];
};

/* A copy in kernel memory of everything that KELEVATE_LOAD is given. */
struct request {
	struct kelevate_image image;
	u64 *imports;
	char *import_names;
	struct elf64_rela *records;
	struct kelevate_range *tables;
	char *args;
};

/* symbols.c: kernel functions that are not exported to modules */
struct kernel_functions {
	int (*set_memory_ro)(unsigned long addr, int pages);
	int (*set_memory_x)(unsigned long addr, int pages);
	void (*mod_tree_insert)(struct module *mod);
	void (*mod_tree_remove)(struct module *mod);
	int (*module_finalize)(const Elf_Ehdr *hdr, const Elf_Shdr *sechdrs, struct module *mod);
	void (*module_arch_cleanup)(struct module *mod); /* may be NULL */
	void (*module_bug_finalize)(const Elf_Ehdr *hdr, const Elf_Shdr *sechdrs,
				    struct module *mod);
	void (*module_bug_cleanup)(struct module *mod);
	int (*jump_label_module_notify)(struct notifier_block *nb, unsigned long val, void *mod);
	int (*static_call_module_notify)(struct notifier_block *nb, unsigned long val, void *mod);
	int (*srcu_module_notify)(struct notifier_block *nb, unsigned long val, void *mod);
	/* these two may be NULL */
	int (*module_trace_bprintk_format_notify)(struct notifier_block *nb, unsigned long val,
						  void *mod);
	int (*kprobes_module_callback)(struct notifier_block *nb, unsigned long val, void *mod);
	char *(*parse_args)(const char *doing, char *args, const struct kernel_param *params,
			    unsigned int num, s16 min_level, s16 max_level, void *arg,
			    int (*unknown)(char *param, char *val, const char *doing, void *arg));
	int (*module_param_sysfs_setup)(struct module *mod, const struct kernel_param *kparam,
					unsigned int num_params);
	void (*module_param_sysfs_remove)(struct module *mod);
	void (*module_destroy_params)(const struct kernel_param *params, unsigned int num);
	void (*sort_extable)(struct exception_table_entry *from, struct exception_table_entry *to);
	void __percpu *(*pcpu_alloc)(size_t size, size_t align, bool reserved, gfp_t gfp);
	void *(*module_alloc)(unsigned long size);     /* this one ... */
	void *(*execmem_alloc)(int type, size_t size); /* ... or this one */
	struct module *(*__module_address)(unsigned long addr);
	struct mod_tree_bounds *mod_tree;
	struct mutex *module_mutex; /* the kernel's, of its list of modules */
	int *modules_disabled;
	enum lockdown_reason *kernel_locked_down; /* may be NULL */
	struct kset **module_kset;
	const struct kobj_type *module_ktype;
	bool (*kallsyms_show_value)(const struct cred *cred);
	unsigned long text; /* address of _text: tells the KASLR slide */
	/* of user code in ring 0; where one is 0, there is none */
	unsigned long entry_text, entry_text_end, ret_from_fork, to_ring3;
	struct tracepoint *sched_process_fork, *local_timer_entry;
};

/* The head of the kernel's struct mod_tree_root (kernel/module/internal.h). */
struct mod_tree_bounds {
	struct latch_tree_root root;
	unsigned long addr_min;
	unsigned long addr_max;
};

extern struct kernel_functions kernel;

int find_kernel_functions(void);
unsigned long find_symbol_of_module(const char *module, int length, const char *symbol);

/* image.c */
struct instance *instance_load(const struct kelevate_image __user *image);

/* end.c */
void instance_put(struct instance *inst);
int endings_start(void);
void endings_stop(void);

/* fault.c */
void faults_watch(void);
void faults_forget(void);
void faults_stop(void);

/* log.c */
void log_elevation(const char *what);
void log_end(void);

/* sysfs.c */
int instance_add_to_sysfs(struct instance *inst);
void instance_remove_from_sysfs(struct instance *inst);

/* params.c */
int instance_set_params(struct instance *inst, char *args);
void instance_drop_params(struct instance *inst);

/* imports.c */
int bind_imports(struct instance *inst, struct request *req);
void release_imports(struct instance *inst);

static inline bool in_image(const struct kelevate_image *m, u32 offset, u32 size)
{
	return offset <= m->end && size <= m->end - offset;
}

/* finish.c */
int check_tables(const struct kelevate_image *m, const struct kelevate_range *tables);
int instance_finish(struct instance *inst, const struct kelevate_range *tables);
void instance_unfinish(struct instance *inst);

#endif
