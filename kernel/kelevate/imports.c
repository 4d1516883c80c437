// SPDX-License-Identifier: GPL-2.0-only
/*
 * The last word on import words.  A linker script's get the slide, libkernel.so's must have this
 * boot's.  Those that are 0 are symbols of loaded modules: their addresses change with every load
 * of the module, so they are looked up when the image is, and the module is held as long as the
 * image uses it.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/preempt.h>
#include <linux/slab.h>
#include <linux/string.h>
#include "internal.h"

/* Per-CPU offsets and constants are below, the kernel and its modules far above. */
#define LOW_END BIT(32)

static struct module *hold_module_at(unsigned long address)
{
	struct module *mod;

	preempt_disable();
	mod = kernel.__module_address(address);
	if (mod && (mod->state != MODULE_STATE_LIVE || !try_module_get(mod)))
		mod = NULL;
	preempt_enable();
	return mod;
}

/* `name` is "SYMBOL [MODULE]". */
static int bind_import(struct instance *inst, u64 *word, char *name)
{
	char *module = strstr(name, " [");
	unsigned long address;
	struct module *mod;

	if (!module)
		return 0; /* weak, or libkbridge would have refused */
	*module = 0;
	module += 2;
	address = find_symbol_of_module(module, strcspn(module, "]"), name);
	mod = address ? hold_module_at(address) : NULL;
	if (!mod) {
		pr_err_ratelimited(
			"%s needs %s of the module %.*s: not loaded, or no code or data\n",
			inst->mod->name, name, (int)strcspn(module, "]"), module);
		return -ENOENT;
	}
	inst->needs[inst->nneeds++] = mod;
	*word = address;
	return 0;
}

int bind_imports(struct instance *inst, struct request *req)
{
	const struct kelevate_image *m = &req->image;
	char *name = req->import_names, *end = name + m->import_names_size;
	u32 k;
	int err;

	if (!(m->flags & KELEVATE_LINKED) && m->text_base != kernel.text) {
		pr_err_ratelimited("%s: its libkernel.so is of another boot or kernel\n",
				   inst->mod->name);
		return -ESTALE;
	}
	if (!m->nimports)
		return 0;
	if (!m->import_names_size || end[-1])
		return -EINVAL;
	inst->needs = kvcalloc(m->nimports, sizeof(*inst->needs), GFP_KERNEL);
	if (!inst->needs)
		return -ENOMEM;
	for (k = 0; k < m->nimports; k++) {
		char *next = name + strlen(name) + 1;
		u64 *word = &req->imports[k];

		if (!*word) {
			err = bind_import(inst, word, name);
			if (err)
				return err;
		} else if (*word >= LOW_END && *word < __START_KERNEL_map) {
			pr_err_ratelimited("%s: %s is bound to no kernel symbol\n", inst->mod->name,
					   name);
			return -EINVAL;
		} else if (m->flags & KELEVATE_LINKED && *word >= __START_KERNEL_map) {
			/* without the slide, which per-CPU offsets do not have */
			*word += kernel.text - m->text_base;
		}
		if (next >= end && k + 1 < m->nimports)
			return -EINVAL;
		name = next;
	}
	return 0;
}

void release_imports(struct instance *inst)
{
	while (inst->nneeds)
		module_put(inst->needs[--inst->nneeds]);
	kvfree(inst->needs);
}
