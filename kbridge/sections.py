# SPDX-License-Identifier: GPL-2.0-only
"""What becomes of each section of a kmod object: placed, finished by the kernel, left out, refused.

A section of a kind that is not listed here is refused by name: passed over in silence, it would
go wrong at run time.
"""

from __future__ import annotations

from kbridge import log
from kbridge.errors import KbridgeError

# finished by the kernel's own functions: enum kelevate_table, in its order
TABLES = (
    "__bug_table",
    "__ex_table",
    "__jump_table",
    ".static_call_sites",
    ".altinstructions",
    ".parainstructions",
    ".retpoline_sites",
    ".return_sites",
    ".call_sites",
    ".orc_unwind",
    ".orc_unwind_ip",
)

# what only a module loader, the function tracer or a tool would read
_LEFT_OUT = (
    ".modinfo", "__versions", ".note", ".gnu.linkonce", "__mcount_loc", "__patchable_function",
    ".smp_locks", ".discard", ".eh_frame", "___ksymtab", "__ksymtab", "___kcrctab", "__kcrctab",
    ".export_symbol", ".ibt_endbr_seal", ".comment", ".BTF", ".kunit_", ".codetag",
    "_error_injection_whitelist", "_kprobe_blacklist",
)  # fmt: skip

# text and data like any other
_PLAIN = (
    ".text", ".init", ".exit", ".ref", ".noinstr", ".cpuidle", ".kprobes", ".entry", ".sched",
    ".altinstr_replacement", ".altinstr_aux", ".fixup", ".rodata", ".srodata", ".lrodata",
    ".data", ".sdata", ".ldata", ".bss", ".lbss", ".meminit", ".memexit", ".cold",
    ".static_call", "__dyndbg",
)  # fmt: skip

# placed, but nobody registers them: what that means is said (once for a family)
_INERT = {
    "__param": "module parameters keep their initial values",
    "__tracepoints": "its own tracepoints never fire",
    "__tracepoints_ptrs": "",
    "__tracepoints_strings": "",
    "__bpf_raw_tp_map": "",
    "_ftrace_events": "its own trace events are not listed",
    "_ftrace_eval_map": "",
    "__tracepoint_str": "",
    "__trace_printk_fmt": "its trace_printk() output cannot be formatted by the kernel",
}

_REFUSED = {
    "__srcu_struct_ptrs": "a static SRCU structure is initialised by the module loader",
    ".init_array": "constructors are run by the module loader",
    ".ctors": "constructors are run by the module loader",
}


def is_placed(section: str, kmod: str, *, empty: bool = False) -> bool:
    """Whether an allocated section goes into the image; KbridgeError where that cannot be right."""
    if section in TABLES:
        return True
    if section.startswith(_LEFT_OUT):
        return False
    if empty:
        return True
    if section in _INERT:
        if _INERT[section]:
            log.warning(f"{kmod}: section {section}: {_INERT[section]}")
        return True
    if section in _REFUSED:
        raise KbridgeError(
            f"{kmod}: section {section}: {_REFUSED[section]}, and an image does not go through it",
            hint="initialise it in module_init() instead",
        )
    if section.startswith(_PLAIN):
        return True
    raise KbridgeError(
        f"{kmod}: section {section} is of a kind that kbridge does not know",
        hint="take out of the source what puts code or data there",
    )
