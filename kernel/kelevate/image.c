// SPDX-License-Identifier: GPL-2.0-only
/*
 * An image's birth: copied from the program, checked, placed in the module area, relocated,
 * finished (finish.c), started.  end.c has the rest.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/ctype.h>
#include <linux/mm.h>
#include <linux/percpu.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include "internal.h"

#define EXECMEM_MODULE_TEXT 0 /* enum execmem_type, include/linux/execmem.h */

/* ---- the request ---- */

static void *copy_array(u64 address, u32 count, size_t size)
{
	return count ? vmemdup_user(u64_to_user_ptr(address), array_size(count, size)) : NULL;
}

/* It goes to the kernel log and sysfs: no line of its own there, and no path. */
static bool is_name(const char *name, size_t room)
{
	size_t length = strnlen(name, room), k;

	for (k = 0; k < length; k++)
		if (iscntrl(name[k]) || name[k] == '/')
			return false;
	return length && length < room;
}

static int check_image(const struct kelevate_image *m)
{
	u32 edges = m->text_end | m->rodata_end | m->end;

	if (m->abi != KELEVATE_ABI || m->size != sizeof(*m)) {
		pr_err_ratelimited(
			"program made for ABI %u (%u bytes), this module has %u (%zu bytes)\n",
			m->abi, m->size, KELEVATE_ABI, sizeof(*m));
		return -EPROTO;
	}
	if (!is_name(m->name, sizeof(m->name)))
		return -EINVAL;
	if (!m->end || m->end > KELEVATE_MAX_IMAGE || edges & ~PAGE_MASK ||
	    m->text_end > m->rodata_end || m->rodata_end > m->end)
		return -EINVAL;
	if (m->init > m->text_end || m->exit > m->text_end)
		return -EINVAL;
	if (m->nimports > 1u << 20 || m->nrecords > 1u << 22 || m->ngates > 1u << 16 ||
	    m->nsymbols > 1u << 20 || m->strings_size > 1u << 26 ||
	    m->import_names_size > 1u << 26 || m->percpu_size > PERCPU_MODULE_RESERVE)
		return -EINVAL;
	if (!m->nsymbols || !m->strings_size)
		return -EINVAL;
	if (m->content & ~PAGE_MASK || m->flags & ~(KELEVATE_CALLED_BACK | KELEVATE_LINKED))
		return -EINVAL;
	if (m->percpu_size && (!is_power_of_2(m->percpu_align) || m->percpu_align > PAGE_SIZE ||
			       !in_image(m, m->percpu, m->percpu_size)))
		return -EINVAL;
	return 0;
}

static void free_request(struct request *req)
{
	kvfree(req->imports);
	kvfree(req->import_names);
	kvfree(req->records);
	kvfree(req->tables);
	kfree(req->args);
}

static int take(void *copied, void *field)
{
	if (IS_ERR(copied))
		return PTR_ERR(copied);
	*(void **)field = copied;
	return 0;
}

static int copy_request(struct request *req, const struct kelevate_image __user *image)
{
	struct kelevate_image *m = &req->image;
	int err;

	memset(req, 0, sizeof(*req));
	if (copy_from_user(m, image, sizeof(*m)))
		return -EFAULT;
	err = check_image(m);
	if (err)
		return err;
	err = take(copy_array(m->imports, m->nimports, sizeof(u64)), &req->imports);
	if (!err)
		err = take(copy_array(m->import_names, m->import_names_size, 1),
			   &req->import_names);
	if (!err)
		err = take(copy_array(m->records, m->nrecords, sizeof(struct elf64_rela)),
			   &req->records);
	if (!err)
		err = take(copy_array(m->tables, KELEVATE_TABLES, sizeof(struct kelevate_range)),
			   &req->tables);
	if (!err && m->args)
		err = take(strndup_user(u64_to_user_ptr(m->args), KELEVATE_MAX_ARGS), &req->args);
	return err ?: check_tables(m, req->tables);
}

/* ---- placing ---- */

/* What %pS, WARN and back traces call the image's functions. */
static int copy_names(struct instance *inst, const struct kelevate_image *m)
{
	struct mod_kallsyms *names = &inst->names;
	u32 k;
	int err;

	err = take(copy_array(m->symbols, m->nsymbols, sizeof(Elf_Sym)), &names->symtab);
	if (!err)
		err = take(copy_array(m->strings, m->strings_size, 1), &names->strtab);
	if (err)
		return err;
	names->typetab = kvmalloc(m->nsymbols, GFP_KERNEL);
	if (!names->typetab)
		return -ENOMEM;
	memset(names->typetab, 't', m->nsymbols);
	names->strtab[m->strings_size - 1] = 0;
	names->num_symtab = m->nsymbols;
	for (k = 1; k < m->nsymbols; k++) {
		if (names->symtab[k].st_name >= m->strings_size)
			return -EINVAL;
		names->symtab[k].st_value += (unsigned long)inst->base;
	}
	return 0;
}

static int copy_gates(struct instance *inst, const struct kelevate_image *m)
{
	u32 k;

	if (copy_from_user(inst->gates, u64_to_user_ptr(m->gates),
			   array_size(m->ngates, sizeof(inst->gates[0]))))
		return -EFAULT;
	inst->ngates = m->ngates;
	for (k = 0; k < m->ngates; k++)
		if (inst->gates[k].offset >= m->text_end ||
		    inst->gates[k].stack_words > KELEVATE_MAX_STACK_WORDS)
			return -EINVAL;
	return 0;
}

/* The image, and behind it its struct module, within reach of 32-bit relocations. */
static int place(struct instance *inst, const struct kelevate_image *m)
{
	size_t size = m->end + PAGE_ALIGN(sizeof(*inst->mod));

	if (kernel.execmem_alloc)
		inst->base = kernel.execmem_alloc(EXECMEM_MODULE_TEXT, size);
	else
		inst->base = kernel.module_alloc(size);
	if (!inst->base)
		return -ENOMEM;
	inst->mod = inst->base + m->end;
	memset(inst->mod, 0, PAGE_ALIGN(sizeof(*inst->mod)));
	inst->text_end = m->text_end;
	inst->rodata_end = m->rodata_end;
	inst->end = m->end;
	inst->init = m->init;
	inst->exit = m->exit;
	inst->called_back = m->flags & KELEVATE_CALLED_BACK;
	inst->content = m->content;
	return copy_from_user(inst->base, u64_to_user_ptr(m->content), m->end) ? -EFAULT : 0;
}

static int place_percpu(struct instance *inst, const struct request *req)
{
	size_t size = req->image.percpu_size;

	if (!size)
		return 0;
	/* the reserved chunk, as for modules: 32-bit displacements reach it */
	inst->percpu =
		kernel.pcpu_alloc(size, req->image.percpu_align, true, GFP_KERNEL | __GFP_NOWARN);
	if (!inst->percpu) {
		pr_err_ratelimited("%s: no room for %zu bytes of per-CPU data\n", req->image.name,
				   size);
		return -ENOMEM;
	}
	return 0;
}

/* Once the initial values are relocated: they may be addresses. */
static void fill_percpu(struct instance *inst, const struct kelevate_image *m)
{
	int cpu;

	if (!inst->percpu)
		return;
	for_each_possible_cpu(cpu)
		memcpy(per_cpu_ptr(inst->percpu, cpu), inst->base + m->percpu, m->percpu_size);
}

static void describe_memory(struct instance *inst)
{
	struct module *mod = inst->mod;
#ifdef HAVE_MODULE_MEMORY
	mod->mem[MOD_TEXT].base = inst->base;
	mod->mem[MOD_TEXT].size = inst->text_end;
	mod->mem[MOD_RODATA].base = inst->base + inst->text_end;
	mod->mem[MOD_RODATA].size = inst->rodata_end - inst->text_end;
	mod->mem[MOD_DATA].base = inst->base + inst->rodata_end;
	mod->mem[MOD_DATA].size = inst->end - inst->rodata_end;
#else
	mod->core_layout.base = inst->base;
	mod->core_layout.size = inst->end;
	mod->core_layout.text_size = inst->text_end;
	mod->core_layout.ro_size = inst->rodata_end;
	mod->core_layout.ro_after_init_size = inst->rodata_end;
#endif
}

/* The struct module by which the kernel's own tables know the image. */
static void describe(struct instance *inst, const char *name)
{
	struct module *mod = inst->mod;

	snprintf(mod->name, sizeof(mod->name), "kb:%s", name);
	mod->state = MODULE_STATE_LIVE;
	/* or try_module_get(THIS_MODULE) fails in every registration */
	atomic_set(&mod->refcnt, 1);
	INIT_LIST_HEAD(&mod->list);
	INIT_LIST_HEAD(&mod->bug_list);
	INIT_LIST_HEAD(&mod->source_list);
	INIT_LIST_HEAD(&mod->target_list);
	describe_memory(inst);
	RCU_INIT_POINTER(mod->kallsyms, &inst->names);
}

/* ---- relocation ---- */

static int resolve(const struct instance *inst, const struct request *req, u32 symbol,
		   unsigned long *value)
{
	const struct kelevate_image *m = &req->image;
	u32 n = symbol - KELEVATE_SYM_IMPORT;

	switch (symbol) {
	case KELEVATE_SYM_IMAGE:
		*value = (unsigned long)inst->base;
		return 0;
	case KELEVATE_SYM_PERCPU:
		*value = (unsigned long)inst->percpu;
		return 0;
	case KELEVATE_SYM_MODULE:
		*value = (unsigned long)inst->mod;
		return 0;
	case KELEVATE_SYM_ABS:
		*value = 0;
		return 0;
	}
	if (n >= m->nimports)
		return -EINVAL;
	*value = req->imports[n];
	return 0;
}

static u32 field_size(u32 type)
{
	return type == R_X86_64_64 || type == R_X86_64_PC64 ? 8 : 4;
}

static int apply(struct instance *inst, const struct request *req, const struct elf64_rela *r)
{
	u32 type = ELF64_R_TYPE(r->r_info);
	unsigned long value;
	void *where;
	int err;

	if (r->r_offset > inst->end - field_size(type))
		return -EINVAL;
	err = resolve(inst, req, ELF64_R_SYM(r->r_info), &value);
	if (err)
		return err;
	where = inst->base + r->r_offset;
	value += r->r_addend;
	switch (type) {
	case R_X86_64_64:
		*(u64 *)where = value;
		return 0;
	case R_X86_64_PC64:
		*(u64 *)where = value - (unsigned long)where;
		return 0;
	case R_X86_64_32:
		*(u32 *)where = value;
		return value == (u32)value ? 0 : -ENOEXEC;
	case R_X86_64_32S:
		*(u32 *)where = value;
		return (long)value == (s32)value ? 0 : -ENOEXEC;
	case R_X86_64_PC32:
		value -= (unsigned long)where;
		*(u32 *)where = value;
		return (long)value == (s32)value ? 0 : -ENOEXEC;
	}
	return -ENOEXEC;
}

static int relocate(struct instance *inst, const struct request *req)
{
	u32 k;

	for (k = 0; k < req->image.nrecords; k++) {
		const struct elf64_rela *r = &req->records[k];
		int err = apply(inst, req, r);

		if (err) {
			pr_err_ratelimited(
				"%s: relocation %u at %#llx: type %u against symbol %u: error %d\n",
				req->image.name, k, r->r_offset, (u32)ELF64_R_TYPE(r->r_info),
				(u32)ELF64_R_SYM(r->r_info), err);
			return err;
		}
	}
	return 0;
}

/* ---- life ---- */

/*
 * As insmod would.  A module_init() that fails is for the program to hear of: from its gate, or
 * from any other gate as ECANCELED.
 */
static void start(struct instance *inst)
{
	if (inst->init)
		inst->init_result = ((int (*)(void))(inst->base + inst->init - 1))();
	if (inst->init_result)
		pr_info("%s: module_init() returned %d\n", inst->mod->name, inst->init_result);
}

static int build(struct instance *inst, struct request *req)
{
	const struct kelevate_image *m = &req->image;
	int err;

	err = place(inst, m) ?: copy_gates(inst, m) ?: copy_names(inst, m) ?:
	      place_percpu(inst, req);
	if (err)
		return err;
	describe(inst, m->name);
	err = instance_add_to_sysfs(inst) ?: bind_imports(inst, req) ?: relocate(inst, req);
	if (err)
		return err;
	fill_percpu(inst, m);
	err = instance_finish(inst, req->tables) ?: instance_set_params(inst, req->args);
	if (err) {
		inst->init_result = err; /* never started: no module_exit() either */
		return err;
	}
	pr_info("%s[%d]: %s loaded, %u bytes, %u gates\n", current->comm, current->pid,
		inst->mod->name, inst->end, inst->ngates);
	log_elevation(inst->mod->name);
	start(inst);
	return 0;
}

struct instance *instance_load(const struct kelevate_image __user *image)
{
	struct instance *inst = NULL;
	struct request req;
	int err = copy_request(&req, image);

	if (!err) {
		inst = kvzalloc(struct_size(inst, gates, req.image.ngates), GFP_KERNEL);
		if (inst) {
			kref_init(&inst->users);
			__module_get(THIS_MODULE); /* sysfs has our functions as long as it lives */
			faults_watch();
		}
		err = inst ? build(inst, &req) : -ENOMEM;
	}
	free_request(&req);
	if (err) {
		if (inst)
			instance_put(inst);
		return ERR_PTR(err);
	}
	return inst;
}
