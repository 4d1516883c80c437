// SPDX-License-Identifier: GPL-2.0-only
/* Reads, copies, modifies and installs interrupt descriptor tables, CPU by CPU. */
#include <linux/atomic.h>
#include <linux/cpu.h>
#include <linux/kernel.h>
#include <linux/memory.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/percpu.h>
#include <linux/smp.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>
#include <asm/cpufeature.h>
#include <asm/cpu_entry_area.h>
#include <asm/desc.h>
#include <asm/text-patching.h>
#include <asm/trapnr.h>
#include "idtool_kmod.h"

static_assert(IDT_ENTRIES == NR_VECTORS);

#define MAGIC "copy of idtool"
#define LAST_STACK (IST_INDEX_MCE + 1) /* a later one is there under SEV-ES only */

/* A table, page-aligned, and what tells it from any other memory. */
struct copy {
	gate_desc gates[IDT_ENTRIES];
	char magic[sizeof(MAGIC)];
	atomic_t users; /* CPUs; -1: being freed */
};

/* idtool_stub.S */
extern const char idtool_stub[], idtool_stub_error_code[];
extern char idtool_stub_jump[], idtool_stub_error_code_jump[];
unsigned long idtool_counter;

/* What this program installed on a CPU, and what was there before. */
static DEFINE_PER_CPU(struct copy *, installed);
static DEFINE_PER_CPU(struct desc_ptr, original);

static DEFINE_MUTEX(lock);
static struct {
	unsigned long copy, handler;
	int vector;
} counted;		      /* copy: 0 if none is */
static unsigned long passing; /* the copy that does not stay, or 0 */

/* The copy at `address`, if that is one. */
static struct copy *find_copy(unsigned long address)
{
	struct copy *copy = (struct copy *)address;
	char magic[sizeof(MAGIC)];

	if (!address || !PAGE_ALIGNED(address) || !is_vmalloc_addr(copy) ||
	    copy_from_kernel_nofault(magic, copy->magic, sizeof(magic)) ||
	    memcmp(magic, MAGIC, sizeof(magic)))
		return NULL;
	return copy;
}

/* The entry of a copy that may be changed. */
static gate_desc *find_gate(unsigned long address, int vector)
{
	struct copy *copy = find_copy(address);

	if (!copy || vector < 0 || vector >= IDT_ENTRIES)
		return ERR_PTR(-EINVAL);
	return atomic_read(&copy->users) ? ERR_PTR(-EBUSY) : copy->gates + vector;
}

static void set_address(gate_desc *gate, unsigned long address)
{
	gate->offset_low = (u16)address;
	gate->offset_middle = (u16)(address >> 16);
	gate->offset_high = (u32)(address >> 32);
}

static void store(void *found)
{
	store_idt((struct desc_ptr *)found);
}

int idt_get(int cpu, struct idt_register *user)
{
	struct idt_register answer = {};
	struct desc_ptr found;
	int err;

	if (cpu < 0 || cpu >= nr_cpu_ids)
		return -ENXIO;
	err = smp_call_function_single(cpu, store, &found, 1);
	if (err)
		return err;
	answer.address = found.address;
	answer.limit = found.size;
	return copy_to_user((void __user *)user, &answer, sizeof(answer)) ? -EFAULT : 0;
}

int idt_read(unsigned long address, int vector, struct idt_entry *user)
{
	struct idt_entry answer = {};
	gate_desc gate;

	if (vector < 0 || vector >= IDT_ENTRIES)
		return -EINVAL;
	if (copy_from_kernel_nofault(&gate, (gate_desc *)address + vector, sizeof(gate)))
		return -EFAULT;
	answer.handler = gate_offset(&gate);
	answer.segment = gate_segment(&gate);
	answer.ist = gate.bits.ist;
	answer.type = gate.bits.type;
	answer.dpl = gate.bits.dpl;
	answer.present = gate.bits.p;
	snprintf(answer.name, sizeof(answer.name), "%ps", (void *)answer.handler);
	return copy_to_user((void __user *)user, &answer, sizeof(answer)) ? -EFAULT : 0;
}

int idt_copy(int cpu, int stay, unsigned long *user)
{
	struct desc_ptr found;
	struct copy *copy;
	int err;

	if (cpu < 0 || cpu >= nr_cpu_ids)
		return -ENXIO;
	err = smp_call_function_single(cpu, store, &found, 1);
	if (err)
		return err;
	copy = vzalloc(sizeof(*copy));
	if (!copy)
		return -ENOMEM;
	memcpy(copy->gates, (void *)found.address, min(sizeof(copy->gates), found.size + 1ul));
	memcpy(copy->magic, MAGIC, sizeof(MAGIC));
	err = put_user((unsigned long)copy, (unsigned long __user *)user);
	if (!err && !stay && cmpxchg(&passing, 0, (unsigned long)copy))
		err = -EBUSY;
	if (err)
		vfree(copy);
	return err;
}

int idt_free(unsigned long address)
{
	struct copy *copy = find_copy(address);

	if (!copy)
		return -EINVAL;
	if (atomic_cmpxchg(&copy->users, 0, -1))
		return -EBUSY;
	memset(copy->magic, 0, sizeof(copy->magic));
	vfree(copy);
	return 0;
}

int idt_set_handler(unsigned long copy, int vector, unsigned long handler)
{
	gate_desc *gate = find_gate(copy, vector);

	if (IS_ERR(gate))
		return PTR_ERR(gate);
	if (!__kernel_text_address(handler))
		return -EINVAL;
	set_address(gate, handler);
	return 0;
}

int idt_set_stack(unsigned long copy, int vector, int ist)
{
	gate_desc *gate = find_gate(copy, vector);

	if (IS_ERR(gate))
		return PTR_ERR(gate);
	if (ist < 0 || ist > LAST_STACK)
		return -EINVAL;
	gate->bits.ist = ist;
	return 0;
}

static bool has_error_code(int vector)
{
	switch (vector) {
	case X86_TRAP_DF:
	case X86_TRAP_TS:
	case X86_TRAP_NP:
	case X86_TRAP_SS:
	case X86_TRAP_GP:
	case X86_TRAP_PF:
	case X86_TRAP_AC:
	case X86_TRAP_CP:
	case X86_TRAP_VC:
		return true;
	default:
		return false;
	}
}

/* A direct jump: an indirect one would be open to Spectre v2, so early in the kernel. */
static void lead_to(char *jump, unsigned long handler)
{
	u8 code[JMP32_INSN_SIZE];

	__text_gen_insn(code, JMP32_INSN_OPCODE, jump, (void *)handler, sizeof(code));
	mutex_lock(&text_mutex);
	text_poke(jump, code, sizeof(code));
	mutex_unlock(&text_mutex);
}

int idt_count(unsigned long copy, int vector)
{
	gate_desc *gate = find_gate(copy, vector);
	bool code = has_error_code(vector);
	int err = -EBUSY;

	if (IS_ERR(gate))
		return PTR_ERR(gate);
	mutex_lock(&lock);
	if (!counted.copy) {
		counted.copy = copy;
		counted.vector = vector;
		counted.handler = gate_offset(gate);
		lead_to(code ? idtool_stub_error_code_jump : idtool_stub_jump, counted.handler);
		set_address(gate, (unsigned long)(code ? idtool_stub_error_code : idtool_stub));
		err = 0;
	}
	mutex_unlock(&lock);
	return err;
}

unsigned long idt_counted(void)
{
	return READ_ONCE(idtool_counter);
}

struct request {
	struct copy *copy;
	int err;
};

static void install_here(void *data)
{
	struct request *request = data;
	struct desc_ptr ours = {
		.size = sizeof(request->copy->gates) - 1,
		.address = (unsigned long)request->copy->gates,
	};
	struct desc_ptr found;

	store_idt(&found);
	if (found.address != CPU_ENTRY_AREA_RO_IDT) {
		request->err = -EBUSY;
		return;
	}
	*this_cpu_ptr(&original) = found;
	this_cpu_write(installed, request->copy);
	native_load_idt(&ours);
}

static void restore_here(void *unused)
{
	struct desc_ptr found, before = *this_cpu_ptr(&original);

	store_idt(&found);
	/* a CPU that was switched off and on has the kernel's own again */
	if (found.address == (unsigned long)this_cpu_read(installed))
		native_load_idt(&before);
}

/* Whether this processor finds its handlers by a table that we can give it. */
static int check_machine(void)
{
#ifdef X86_FEATURE_FRED
	if (boot_cpu_has(X86_FEATURE_FRED))
		return -ENODEV;
#endif
	if (boot_cpu_has(X86_FEATURE_XENPV))
		return -ENODEV;
	/* user mode's page tables have neither our table nor our code */
	return boot_cpu_has(X86_FEATURE_PTI) ? -EOPNOTSUPP : 0;
}

int idt_install(int cpu, unsigned long address)
{
	struct request request = { .copy = find_copy(address) };
	int err = check_machine();

	if (err)
		return err;
	if (!request.copy)
		return -EINVAL;
	if (cpu < 0 || cpu >= nr_cpu_ids)
		return -ENXIO;
	if (!atomic_inc_unless_negative(&request.copy->users))
		return -EINVAL;
	mutex_lock(&lock);
	err = smp_call_function_single(cpu, install_here, &request, 1) ?: request.err;
	mutex_unlock(&lock);
	if (err)
		atomic_dec(&request.copy->users);
	return err;
}

void idt_restore(void)
{
	struct copy *copy;
	int cpu;

	mutex_lock(&lock);
	for_each_possible_cpu(cpu) {
		copy = per_cpu(installed, cpu);
		if (!copy)
			continue;
		smp_call_function_single(cpu, restore_here, NULL, 1);
		per_cpu(installed, cpu) = NULL;
		atomic_dec(&copy->users);
	}
	/* the copy may outlive this program, the code that counts does not */
	if (counted.copy && find_copy(counted.copy))
		set_address(((struct copy *)counted.copy)->gates + counted.vector, counted.handler);
	counted.copy = 0;
	idt_free(xchg(&passing, 0));
	mutex_unlock(&lock);
}

/* Runs when the program has ended, whatever ended it. */
static void __exit idtool_exit(void)
{
	idt_restore();
}
module_exit(idtool_exit);
