// SPDX-License-Identifier: GPL-2.0-only
/*
 * Makes a relocated image part of the running kernel, by the kernel's own functions, in the order
 * in which load_module() uses them: alternatives, retpolines, return sites, unwind tables, then
 * BUG and exception tables, static SRCU structures, static keys, static calls and formats of
 * trace_printk(); and takes it out again.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bug.h>
#include <linux/extable.h>
#include <linux/jump_label.h>
#include <linux/notifier.h>
#include <linux/rbtree_latch.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/static_call.h>
#include <asm/alternative.h>
#include <asm/extable.h>
#include "internal.h"

/*
 * Section names as module_finalize() of arch/x86/kernel/module.c looks for them, in the order of
 * enum kelevate_table.  .ibt_endbr_seal is left out on purpose: objtool lists there the functions
 * whose address the image itself never takes, and those are the ones that gates call.
 */
#define NAME_SIZE 24
static const char names[KELEVATE_TABLES + 1][NAME_SIZE] = {
	[KELEVATE_BUG_TABLE] = "__bug_table",
	[KELEVATE_EX_TABLE] = "__ex_table",
	[KELEVATE_JUMP_TABLE] = "__jump_table",
	[KELEVATE_STATIC_CALL_SITES] = ".static_call_sites",
	[KELEVATE_ALTINSTRUCTIONS] = ".altinstructions",
	[KELEVATE_PARAINSTRUCTIONS] = ".parainstructions",
	[KELEVATE_RETPOLINE_SITES] = ".retpoline_sites",
	[KELEVATE_RETURN_SITES] = ".return_sites",
	[KELEVATE_CALL_SITES] = ".call_sites",
	[KELEVATE_ORC_UNWIND] = ".orc_unwind",
	[KELEVATE_ORC_UNWIND_IP] = ".orc_unwind_ip",
	[KELEVATE_PARAM] = "__param",
	[KELEVATE_SRCU_STRUCT_PTRS] = "___srcu_struct_ptrs",
	[KELEVATE_TRACE_PRINTK_FMT] = "__trace_printk_fmt",
	[KELEVATE_TABLES] = ".text",
};

/* Bytes of an entry: the kernel walks tables entry by entry, also past an end that is none. */
static const u32 entry_sizes[KELEVATE_TABLES] = {
	[KELEVATE_BUG_TABLE] = sizeof(struct bug_entry),
	[KELEVATE_EX_TABLE] = sizeof(struct exception_table_entry),
	[KELEVATE_JUMP_TABLE] = sizeof(struct jump_entry),
	[KELEVATE_STATIC_CALL_SITES] = sizeof(struct static_call_site),
	[KELEVATE_ALTINSTRUCTIONS] = sizeof(struct alt_instr),
#ifdef HAVE_PARAVIRT_PATCH_SITE
	[KELEVATE_PARAINSTRUCTIONS] = sizeof(struct paravirt_patch_site),
#else
	[KELEVATE_PARAINSTRUCTIONS] = 1, /* nobody reads it */
#endif
	[KELEVATE_RETPOLINE_SITES] = sizeof(s32),
	[KELEVATE_RETURN_SITES] = sizeof(s32),
	[KELEVATE_CALL_SITES] = sizeof(s32),
	[KELEVATE_ORC_UNWIND] = 6, /* struct orc_entry, packed: asm/orc_types.h */
	[KELEVATE_ORC_UNWIND_IP] = sizeof(int),
	[KELEVATE_PARAM] = sizeof(struct kernel_param),
	[KELEVATE_SRCU_STRUCT_PTRS] = sizeof(struct srcu_struct *),
	[KELEVATE_TRACE_PRINTK_FMT] = sizeof(char *),
};

int check_tables(const struct kelevate_image *m, const struct kelevate_range *tables)
{
	unsigned int k;

	for (k = 0; k < KELEVATE_TABLES; k++)
		if (!in_image(m, tables[k].offset, tables[k].size) ||
		    tables[k].size % entry_sizes[k])
			return -EINVAL;
	/* the kernel sorts the two together: one struct orc_entry for each int */
	return tables[KELEVATE_ORC_UNWIND].size / 6 == tables[KELEVATE_ORC_UNWIND_IP].size / 4
		       ? 0
		       : -EINVAL;
}

/* What load_module() has these do through its notifier chain; NULL where a kernel lacks one. */
static int (**const notifiers[])(struct notifier_block *nb, unsigned long val, void *mod) = {
	&kernel.srcu_module_notify,	   &kernel.jump_label_module_notify,
	&kernel.static_call_module_notify, &kernel.module_trace_bprintk_format_notify,
	&kernel.kprobes_module_callback,
};

static void go(struct instance *inst, int count)
{
	while (count--)
		if (*notifiers[count])
			(*notifiers[count])(NULL, MODULE_STATE_GOING, inst->mod);
}

static int come(struct instance *inst)
{
	int err = 0, k;

	for (k = 0; k < ARRAY_SIZE(notifiers); k++) {
		if (!*notifiers[k])
			continue;
		err = (*notifiers[k])(NULL, MODULE_STATE_COMING, inst->mod);
		/* srcu_module_notify() returns an errno as it is */
		err = err < 0 ? err : notifier_to_errno(err);
		if (err) {
			go(inst, k);
			break;
		}
	}
	return err;
}

/* The header and section list of a .ko, made up from the image's tables. */
struct sections {
	Elf_Ehdr header;
	Elf_Shdr list[KELEVATE_TABLES + 3]; /* null, tables, .text, the names */
	char names[sizeof(names)];
};

static struct sections *make_sections(struct instance *inst, const struct kelevate_range *tables)
{
	struct sections *s = kzalloc(sizeof(*s), GFP_KERNEL);
	unsigned int n = 1, k;

	if (!s)
		return NULL;
	for (k = 0; k <= KELEVATE_TABLES; k++) {
		bool text = k == KELEVATE_TABLES;
		u32 size = text ? inst->text_end : tables[k].size;

		if (!size)
			continue;
		s->list[n].sh_name = k * NAME_SIZE;
		s->list[n].sh_addr = (unsigned long)inst->base + (text ? 0 : tables[k].offset);
		s->list[n].sh_size = size;
		s->list[n].sh_flags = SHF_ALLOC;
		n++;
	}
	/* the kernel reads names at (void *)header + sh_offset */
	memcpy(s->names, names, sizeof(names));
	s->list[n].sh_offset = offsetof(struct sections, names);
	s->header.e_shstrndx = n;
	s->header.e_shnum = n;
	return s;
}

static void set_tables(struct instance *inst, const struct kelevate_range *tables)
{
	struct module *mod = inst->mod;
	const struct kelevate_range *t;

	t = &tables[KELEVATE_EX_TABLE];
	mod->extable = inst->base + t->offset;
	mod->num_exentries = t->size / sizeof(struct exception_table_entry);
	kernel.sort_extable(mod->extable, mod->extable + mod->num_exentries);

	t = &tables[KELEVATE_JUMP_TABLE];
	mod->jump_entries = inst->base + t->offset;
	mod->num_jump_entries = t->size / sizeof(struct jump_entry);

	t = &tables[KELEVATE_STATIC_CALL_SITES];
	mod->static_call_sites = inst->base + t->offset;
	mod->num_static_call_sites = t->size / sizeof(struct static_call_site);

	t = &tables[KELEVATE_PARAM];
	mod->kp = inst->base + t->offset;
	mod->num_kp = t->size / sizeof(struct kernel_param);

	t = &tables[KELEVATE_SRCU_STRUCT_PTRS];
	mod->srcu_struct_ptrs = inst->base + t->offset;
	mod->num_srcu_structs = t->size / sizeof(struct srcu_struct *);

#ifdef CONFIG_TRACING
	t = &tables[KELEVATE_TRACE_PRINTK_FMT];
	mod->trace_bprintk_fmt_start = inst->base + t->offset;
	mod->num_trace_bprintk_fmt = t->size / sizeof(char *);
#endif
}

/* Read-only and executable, never writable and executable at once. */
static int protect(struct instance *inst)
{
	unsigned long base = (unsigned long)inst->base;
	int err = 0;

	if (inst->rodata_end)
		err = kernel.set_memory_ro(base, inst->rodata_end >> PAGE_SHIFT);
	if (!err && inst->text_end)
		err = kernel.set_memory_x(base, inst->text_end >> PAGE_SHIFT);
	return err;
}

static void publish(struct instance *inst, const struct sections *s)
{
	unsigned long base = (unsigned long)inst->base;
	struct mod_tree_bounds *tree = kernel.mod_tree;

	mutex_lock(kernel.module_mutex);
	kernel.module_bug_finalize(&s->header, s->list, inst->mod);
	tree->addr_min = min(tree->addr_min, base);
	tree->addr_max = max(tree->addr_max, base + inst->end);
	kernel.mod_tree_insert(inst->mod);
	mutex_unlock(kernel.module_mutex);
}

static void withdraw(struct instance *inst)
{
	mutex_lock(kernel.module_mutex);
	kernel.mod_tree_remove(inst->mod);
	kernel.module_bug_cleanup(inst->mod);
	mutex_unlock(kernel.module_mutex);
	if (kernel.module_arch_cleanup)
		kernel.module_arch_cleanup(inst->mod);
	synchronize_rcu();
	/* twice: a processor runs calls that are waited for ahead of others of the same batch */
	kick_all_cpus_sync();
	kick_all_cpus_sync();
}

int instance_finish(struct instance *inst, const struct kelevate_range *tables)
{
	struct sections *s = make_sections(inst, tables);
	int err;

	if (!s)
		return -ENOMEM;
	set_tables(inst, tables);
	err = kernel.module_finalize(&s->header, s->list, inst->mod);
	if (err)
		goto out;
	publish(inst, s);
	err = come(inst);
	if (err) {
		withdraw(inst);
		goto out;
	}
	err = protect(inst);
	inst->finished = !err;
	if (err) {
		go(inst, ARRAY_SIZE(notifiers));
		withdraw(inst);
	}
out:
	kfree(s);
	return err;
}

void instance_unfinish(struct instance *inst)
{
	go(inst, ARRAY_SIZE(notifiers));
	withdraw(inst);
	inst->finished = false;
}
