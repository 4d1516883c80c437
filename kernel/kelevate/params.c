// SPDX-License-Identifier: GPL-2.0-only
/*
 * Module parameters: set from a string as insmod takes it, before module_init(), and shown in
 * /sys/module/kb:NAME-NUMBER/parameters.  As load_module() and mod_sysfs_setup() have it.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/err.h>
#include <linux/moduleparam.h>
#include <linux/mutex.h>
#include "internal.h"

static int tell_unknown(char *param, char *val, const char *doing, void *arg)
{
	pr_warn("%s: unknown parameter '%s' ignored\n", doing, param);
	return 0;
}

int instance_set_params(struct instance *inst, char *args)
{
	struct module *mod = inst->mod;
	char none[1] = "", *rest;

	mutex_init(&mod->param_lock);
	rest = kernel.parse_args(mod->name, args ?: none, mod->kp, mod->num_kp, -32768, 32767, mod,
				 tell_unknown);
	if (IS_ERR(rest))
		return PTR_ERR(rest);
	return kernel.module_param_sysfs_setup(mod, mod->kp, mod->num_kp);
}

void instance_drop_params(struct instance *inst)
{
	struct module *mod = inst->mod;

	if (!inst->in_sysfs)
		return; /* it did not get that far */
	kernel.module_param_sysfs_remove(mod);
	kernel.module_destroy_params(mod->kp, mod->num_kp);
}
