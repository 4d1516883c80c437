// SPDX-License-Identifier: GPL-2.0-only
/*
 * /sys/module/kb:NAME-NUMBER: drivers that an image registers link to its module's kobject, and
 * debuggers learn there where the image is.  As mod_sysfs_init(), mod_kobject_put() and
 * add_sect_attrs() of kernel/module/sysfs.c have it.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/atomic.h>
#include <linux/completion.h>
#include <linux/cred.h>
#include <linux/kobject.h>
#include <linux/sysfs.h>
#include "internal.h"

extern bool no_hash_pointers; /* kernels before 6.10 export it, and have it in no header */

static atomic_t number = ATOMIC_INIT(0);

/* The image's first byte: what OUTPUT.kmod.debug has at address 0. */
static void *text_of(const struct module *mod)
{
#ifdef HAVE_MODULE_MEMORY
	return mod->mem[MOD_TEXT].base;
#else
	return mod->core_layout.base;
#endif
}

#ifdef HAVE_CONST_MODULE_ATTRIBUTE
#define CONST_WHERE_KEPT const
#else
#define CONST_WHERE_KEPT
#endif

static ssize_t show_text(CONST_WHERE_KEPT struct module_attribute *attribute,
			 struct module_kobject *kobject, char *page)
{
	/* nothing of an address for those who may not know any */
	void *text = kernel.kallsyms_show_value(current_cred()) ? text_of(kobject->mod) : NULL;

	return sysfs_emit(page, "0x%px\n", text);
}

static struct module_attribute text = {
	.attr = { .name = ".text", .mode = 0400 },
	.show = show_text,
};

static struct attribute *attributes[] = { &text.attr, NULL };

static const struct attribute_group sections = {
	.name = "sections",
	.attrs = attributes,
};

static void put_kobject(struct module *mod)
{
	DECLARE_COMPLETION_ONSTACK(released);

	mod->mkobj.kobj_completion = &released;
	kobject_put(&mod->mkobj.kobj);
	wait_for_completion(&released);
}

int instance_add_to_sysfs(struct instance *inst)
{
	struct module *mod = inst->mod;
	int err;

	mod->mkobj.mod = mod;
	mod->mkobj.kobj.kset = *kernel.module_kset;
	err = kobject_init_and_add(&mod->mkobj.kobj, kernel.module_ktype, NULL, "%s-%u", mod->name,
				   (unsigned int)atomic_inc_return(&number));
	if (!err)
		err = sysfs_create_group(&mod->mkobj.kobj, &sections);
	if (err) {
		put_kobject(mod);
		return err;
	}
	inst->in_sysfs = true;
	if (no_hash_pointers) /* somebody debugs this kernel */
		pr_info("%s: sections/.text is 0x%px\n", kobject_name(&mod->mkobj.kobj),
			text_of(mod));
	return 0;
}

void instance_remove_from_sysfs(struct instance *inst)
{
	if (!inst->in_sysfs)
		return;
	sysfs_remove_group(&inst->mod->mkobj.kobj, &sections);
	kobject_put(inst->mod->mkobj.drivers_dir);
	put_kobject(inst->mod);
	inst->in_sysfs = false;
}
