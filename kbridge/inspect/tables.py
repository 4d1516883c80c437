# SPDX-License-Identifier: GPL-2.0-only
"""Entries of the kernel's special sections: how large one is, and what is in some of them.

Some sizes differ between kernels.  They are found from the content, which only the right size
makes sense of: an entry of the bug table points at ud2, one of the alternatives at code.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

from kbridge.inspect.view import Region, View

_UD2 = b"\x0f\x0b"


class Alternative(NamedTuple):
    """An instruction that the kernel may overwrite, and with what; addresses and bytes."""

    at: int
    size: int
    replacement: int
    replacement_size: int

    def holds(self, address: int) -> bool:
        """Whether the address lies in the replacement."""
        return self.replacement <= address < self.replacement + self.replacement_size


def _relative(region: Region, offset: int) -> int:
    (distance,) = struct.unpack_from("<i", region.data, offset)
    return region.start + offset + int(distance)


def _is_bug_entry(view: View, region: Region, offset: int, _size: int) -> bool:
    # Source: struct bug_entry in include/asm-generic/bug.h, GENERIC_BUG_RELATIVE_POINTERS
    return view.read(_relative(region, offset), 2) == _UD2


def _is_alternative(view: View, region: Region, offset: int, size: int) -> bool:
    one = _alternative(region, offset, size)
    code, replacement = view.region_at(one.at), view.region_at(one.replacement)
    if code is None or not code.executable or one.replacement_size > one.size:
        return False
    return not one.replacement_size or (replacement is not None and replacement.executable)


def _alternative(region: Region, offset: int, size: int) -> Alternative:
    """Source: struct alt_instr in arch/x86/include/asm/alternative.h.

    12 bytes; 13 before Linux commit 23c1ad538f4f ("x86/alternatives: Optimize
    optimize_nops()", v5.13), with `padlen`; 14 since Linux commit 5d1dd961e743
    ("x86/alternatives: Add alt_instr.flags", v6.3).
    """
    lengths = offset + {12: 10, 13: 10, 14: 12}[size]
    return Alternative(
        _relative(region, offset),
        region.data[lengths],
        _relative(region, offset + 4),
        region.data[lengths + 1],
    )


_Check = Callable[[View, Region, int, int], bool]
_VARIABLE: dict[str, tuple[tuple[int, ...], _Check]] = {
    # with file and line; without (DEBUG_BUGVERBOSE=n); with a format (DEBUG_BUGVERBOSE_DETAILED)
    "__bug_table": ((12, 8, 16), _is_bug_entry),
    ".altinstructions": ((14, 12, 13), _is_alternative),
}
_FIXED = {
    "__ex_table": 12,  # struct exception_table_entry, arch/x86/include/asm/extable.h
    "__jump_table": 16,  # struct jump_entry, include/linux/jump_label.h
    ".static_call_sites": 8,  # struct static_call_site, include/linux/static_call_types.h
    ".static_call_tramp_key": 8,
    ".parainstructions": 16,  # struct paravirt_patch_site, with its alignment
    ".retpoline_sites": 4,
    ".return_sites": 4,
    ".call_sites": 4,
    ".ibt_endbr_seal": 4,
    ".orc_unwind": 6,  # struct orc_entry, arch/x86/include/asm/orc_types.h
    ".orc_unwind_ip": 4,
    ".smp_locks": 4,
    "__mcount_loc": 8,
    "__patchable_function_entries": 8,
    "__param": 40,  # struct kernel_param, include/linux/moduleparam.h
    "__tracepoints_ptrs": 4,  # HAVE_ARCH_PREL32_RELOCATIONS
    "___srcu_struct_ptrs": 8,
    "__srcu_struct_ptrs": 8,
    "_ftrace_events": 8,
    "_ftrace_eval_map": 8,
    "__trace_printk_fmt": 8,
    "__tracepoint_str": 8,
    "__bpf_raw_tp_map": 32,
    "__dyndbg": 56,  # struct _ddebug, with JUMP_LABEL
    "__versions": 64,  # struct modversion_info
    "_error_injection_whitelist": 16,
    "_kprobe_blacklist": 8,
    ".init_array": 8,
    ".ctors": 8,
    ".fini_array": 8,
    ".dtors": 8,
    "__ksymtab": 12,
    "__ksymtab_gpl": 12,
    "__kcrctab": 4,
    "__kcrctab_gpl": 4,
}


def entry_size(view: View, region: Region) -> int | None:
    """Bytes of one entry; None where it is not known, or the content is not as it should be."""
    if region.name in _VARIABLE:
        sizes, is_entry = _VARIABLE[region.name]
        for size in sizes:
            offsets = range(0, len(region.data), size)
            whole = region.data and len(region.data) % size == 0
            if whole and all(is_entry(view, region, offset, size) for offset in offsets):
                return size
        return None
    size = _FIXED.get(region.name, 0)
    return size if size and region.size % size == 0 else None


def entries(name: str, size: int) -> int | None:
    """Number of entries in `size` bytes of the section, where that does not take its content."""
    each = _FIXED.get(name, 0)
    return size // each if each and size % each == 0 else None


def alternatives(view: View) -> list[Alternative] | None:
    """Every instruction that has an alternative; None where the table cannot be read."""
    found = []
    for region in view.named(".altinstructions"):
        size = entry_size(view, region)
        if size is None and region.size:
            return None
        found += [
            _alternative(region, offset, size)
            for offset in range(0, len(region.data), size or 1)
            if size
        ]
    return found


def paravirt_sites(view: View) -> set[int]:
    """Addresses of the calls that the kernel patches (before 6.8, where alternatives do it)."""
    found = set()
    for region in view.named(".parainstructions"):
        for reference in view.references_in(region.start, region.end):
            found.add(reference.value)
        whole = len(region.data) // 16 * 16
        found.update(at for at, _ in struct.iter_unpack("<QQ", region.data[:whole]))
    return found
