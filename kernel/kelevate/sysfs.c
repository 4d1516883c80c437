// SPDX-License-Identifier: GPL-2.0-only
/*
 * /sys/module/kb:NAME-NUMBER: drivers that an image registers link to its module's kobject.  As
 * mod_sysfs_init() and mod_kobject_put() of kernel/module/sysfs.c have it.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/atomic.h>
#include <linux/completion.h>
#include <linux/kobject.h>
#include "internal.h"

static atomic_t number = ATOMIC_INIT(0);

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
	if (err)
		put_kobject(mod);
	else
		inst->in_sysfs = true;
	return err;
}

void instance_remove_from_sysfs(struct instance *inst)
{
	if (!inst->in_sysfs)
		return;
	kobject_put(inst->mod->mkobj.drivers_dir);
	put_kobject(inst->mod);
	inst->in_sysfs = false;
}
