# SPDX-License-Identifier: GPL-2.0-only
"""The special sections of kernel code: what each is, how many entries, what becomes of it.

kbridge/sections.py decides; this says it.
"""

from __future__ import annotations

from collections.abc import Iterator

from kbridge import sections
from kbridge.inspect import tables
from kbridge.inspect.report import Residue
from kbridge.inspect.view import Region, View

# what a section is; the longest start that fits counts
_WHAT = {
    "__bug_table": "BUG() and WARN()",
    "__ex_table": "exception table",
    "__jump_table": "static branches",
    ".static_call_sites": "static calls",
    ".static_call": "static call trampolines",
    ".altinstructions": "alternatives",
    ".altinstr_": "replacements of alternatives",
    ".parainstructions": "paravirt calls",
    ".retpoline_sites": "retpolines",
    ".return_sites": "return thunks",
    ".call_sites": "call depth tracking",
    ".orc_unwind": "unwind data",
    ".orc_unwind_ip": "unwind data: addresses",
    ".orc_header": "unwind data: its form",
    ".data..percpu": "per-CPU data",
    "__param": "module parameters",
    "___srcu_struct_ptrs": "static SRCU structures",
    "__srcu_struct_ptrs": "static SRCU structures",
    "__tracepoint": "tracepoints",
    "__bpf_raw_tp_map": "tracepoints for BPF",
    "_ftrace_event": "trace events",
    "_ftrace_eval_map": "enums of trace events",
    "__trace_printk_fmt": "trace_printk() formats",
    "__dyndbg": "dynamic debug messages",
    ".init.": "code and data for start-up",
    ".exit.": "code and data for the end",
    ".modinfo": "module information",
    "__versions": "symbol versions",
    "__mcount_loc": "function tracer call sites",
    "__patchable_function": "function tracer call sites",
    ".smp_locks": "lock prefixes",
    ".ibt_endbr_seal": "endbr64 that may go (IBT)",
    ".discard": "notes for objtool",
    ".eh_frame": "unwind data of user code",
    "__ksymtab": "exported symbols",
    "___ksymtab": "exported symbols",
    "__ksymtab_strings": "names of exported symbols",
    "__kcrctab": "versions of exported symbols",
    "___kcrctab": "versions of exported symbols",
    ".export_symbol": "exported symbols",
    ".gnu.linkonce.this_module": "struct module",
    ".BTF": "type information",
    ".kunit": "KUnit tests",
    ".codetag": "allocation tags",
    "_error_injection_whitelist": "error injection",
    "_kprobe_blacklist": "functions not to be probed",
    ".init_array": "constructors",
    ".ctors": "constructors",
    ".fini_array": "destructors",
    ".dtors": "destructors",
}
_DULL = (".note", ".comment", ".text", ".rodata", ".bss")
_FINISHED = {
    "__bug_table": "module_bug_finalize(): WARN() warns and goes on",
    "__ex_table": "the kernel finds it when an access faults",
    "__jump_table": "jump_label_module_notify(): follows its key, also later",
    ".static_call_sites": "static_call_module_notify(): follows its call, also later",
    ".altinstructions": "apply_alternatives(), for this machine's processor",
    ".parainstructions": "apply_paravirt()",
    ".retpoline_sites": "apply_retpolines(), as the machine needs it",
    ".return_sites": "apply_returns(), as the machine needs it",
    ".call_sites": "callthunks_patch_module_calls()",
    ".orc_unwind": "unwind_module_init(): stack traces",
    ".orc_unwind_ip": "unwind_module_init(): stack traces",
    "__param": "parse_args(): values are given as for insmod",
    "___srcu_struct_ptrs": "init_srcu_struct()",
    "__trace_printk_fmt": "hold_module_trace_bprintk_format(): lines outlive the image",
}
_LEFT_OUT = {
    ".smp_locks": "the lock prefixes stay, which is right on any machine",
    "__mcount_loc": "kmod functions cannot be traced",
    "__patchable_function": "kmod functions cannot be traced",
    ".ibt_endbr_seal": "it would seal the functions that gates call",
    ".modinfo": "for a module loader",
    "__versions": "for a module loader; the build ID says more",
    ".gnu.linkonce.this_module": "kelevate makes a struct module",
    "__ksymtab": "nothing links to a kmod",
    "___ksymtab": "nothing links to a kmod",
}
_PLACED = {
    ".init.text": "module_init() and what it calls; never freed",
    ".init.": "never freed",
    ".exit.text": "module_exit() and what it calls",
    ".data..percpu": "an area in the kernel's reserved per-CPU chunk",
    ".static_call": "code like any other",
    ".altinstr_": "copied over the originals by apply_alternatives()",
    "__dyndbg": "messages stay off",
}


def _longest(table: dict[str, str], name: str) -> str:
    found = [start for start in table if name.startswith(start)]
    return table[max(found, key=len)] if found else ""


def _fate(name: str, placed: bool) -> tuple[str, str]:
    """(fate, why); `placed`: whether it is in an image already."""
    if name in sections.TABLES:
        return "finished", _longest(_FINISHED, name)
    if name in sections.INERT:
        family = next(
            (why for key, why in sections.INERT.items() if why and key[:8] == name[:8]), ""
        )
        return "inert", sections.INERT[name] or family or "nobody reads it"
    if name.startswith(sections.LEFT_OUT):
        return "left out", _longest(_LEFT_OUT, name) or "nothing in a kernel reads it"
    refusal = sections.refusal(name)
    if refusal is None:
        return "placed", _longest(_PLACED, name) or "data like any other"
    if placed:
        return "inert", f"{refusal.why}: allowed by --allow {refusal.name}"
    return "refused", f"{refusal.why} (class {refusal.name})"


def _is_special(name: str) -> bool:
    if name.startswith(_DULL):
        return False
    if _longest(_WHAT, name):
        return True
    return not name.startswith(sections.PLAIN)


def _special(view: View) -> Iterator[tuple[str, Region]]:
    for region in view.regions:
        if region.size and _is_special(region.name):
            yield region.name, region


def _merged(rows: list[Residue]) -> list[Residue]:
    """Sections of one name as one row; an unknown number of entries stays unknown."""
    found: dict[str, Residue] = {}
    for row in rows:
        known = found.get(row.section)
        if known is None:
            found[row.section] = row
            continue
        entries = (
            None if known.entries is None or row.entries is None else known.entries + row.entries
        )
        found[row.section] = Residue(
            row.section, row.what, known.bytes + row.bytes, entries, row.fate, row.why
        )
    return sorted(found.values(), key=lambda row: row.section)


def find(view: View, kind: str, percpu: int) -> list[Residue]:
    """Every special section.  `kind` is that of the report, `percpu` bytes of own per-CPU data."""
    linked = kind in ("program", "library")
    loader = {"module": "module loader", "kernel": "kernel"}.get(kind)
    rows = []
    for name, region in _special(view):
        size = tables.entry_size(view, region)
        entries = region.size // size if size else None
        if entries is None and region.executable:
            entries = view.count_functions(region) or None
        fate, why = _fate(name, linked) if loader is None else (loader, "")
        rows.append(
            Residue(name, _longest(_WHAT, name) or "other", region.size, entries, fate, why)
        )
    for name, size in view.left_out:
        if name.startswith(_DULL):
            continue
        fate, why = _fate(name, placed=False)
        entries = tables.entries(name, size)
        rows.append(Residue(name, _longest(_WHAT, name) or "other", size, entries, fate, why))
    if percpu:
        fate, why = ("placed", _PLACED[".data..percpu"]) if loader is None else (loader, "")
        count = len(view.variables) or None
        rows.append(Residue(".data..percpu", "per-CPU data", percpu, count, fate, why))
    return _merged(rows)
