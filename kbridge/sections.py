# SPDX-License-Identifier: GPL-2.0-only
"""What becomes of each section of a kmod object: placed, finished by the kernel, left out, refused.

A section of a kind that is not listed here is refused by name: passed over in silence, it would
go wrong at run time.
"""

from __future__ import annotations

from typing import NamedTuple

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
    "__param",
    "___srcu_struct_ptrs",
    "__trace_printk_fmt",
)

# what only a module loader, the function tracer or a tool would read
LEFT_OUT = (
    ".modinfo", "__versions", ".note", ".gnu.linkonce", "__mcount_loc", "__patchable_function",
    ".smp_locks", ".discard", ".eh_frame", "___ksymtab", "__ksymtab", "___kcrctab", "__kcrctab",
    ".export_symbol", ".ibt_endbr_seal", ".comment", ".BTF.", ".kunit_", ".codetag",
    "_error_injection_whitelist", "_kprobe_blacklist",
)  # fmt: skip

# text and data like any other
PLAIN = (
    ".text", ".init", ".exit", ".ref", ".noinstr", ".cpuidle", ".kprobes", ".entry", ".sched",
    ".altinstr_replacement", ".altinstr_aux", ".fixup", ".rodata", ".srodata", ".lrodata",
    ".data", ".sdata", ".ldata", ".bss", ".lbss", ".meminit", ".memexit", ".cold",
    ".static_call", "__dyndbg", ".BTF_ids",
)  # fmt: skip

# placed, but nobody registers them: what that means is said (once for a family)
INERT = {
    "__tracepoints": "only probes that it registers itself see its own tracepoints",
    "__tracepoints_ptrs": "",
    "__tracepoints_strings": "",
    "__bpf_raw_tp_map": "",
    "_ftrace_events": "its own trace events are not listed",
    "_ftrace_eval_map": "",
    "__tracepoint_str": "",
}

_CONSTRUCTORS = (".init_array", ".ctors", ".fini_array", ".dtors")


class Refusal(NamedTuple):
    """Why a section cannot become part of an image; `name` is the class, for --allow."""

    name: str
    why: str
    hint: str


_UNKNOWN = Refusal(
    "section",
    "is of a kind that kbridge does not know",
    "take out of the source what puts code or data there, or keep it as plain data: "
    "--allow section",
)
_CONSTRUCTOR = Refusal(
    "constructor",
    "holds constructors, which the module loader runs, and an image does not go through it",
    "call the function in module_init(), or let it be: --allow constructor",
)


def is_placed(section: str) -> bool:
    """Whether an allocated section goes into the image."""
    return section in TABLES or not (section == ".BTF" or section.startswith(LEFT_OUT))


def refusal(section: str) -> Refusal | None:
    """Why a section that would be placed, and is not empty, is refused."""
    if section in TABLES or section in INERT:
        return None
    if section.startswith(_CONSTRUCTORS):
        return _CONSTRUCTOR
    return None if section.startswith(PLAIN) else _UNKNOWN
