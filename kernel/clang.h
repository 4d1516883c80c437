/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Included ahead of a source that clang compiles for a kernel that gcc built.
 *
 * Where gcc has named address spaces (CONFIG_CC_HAS_NAMED_AS) the kernel's inline assembly leaves
 * it to the compiler to write the %gs of a per-CPU operand.  clang has them too, but drops the
 * segment of a memory operand in inline assembly, up to LLVM 22 at least and without a word
 * (https://github.com/llvm/llvm-project/issues/187893): so it is written here, as kernels do that
 * clang builds.  Everything else that the configuration says stays as it is.
 */
#include <asm/percpu.h>

#ifdef CONFIG_CC_HAS_NAMED_AS
#undef __percpu_prefix
#define __percpu_prefix __force_percpu_prefix
#endif
