# SPDX-License-Identifier: GPL-2.0-only
"""Reads symbols from text: /proc/kallsyms of the running kernel, or a System.map.

Not for kernel images (image.py).
"""

from __future__ import annotations

import platform
import re
from pathlib import Path

from kbridge.errors import KbridgeError
from kbridge.symbols.notes import build_id as build_id_in
from kbridge.symbols.table import Symbol, SymbolTable

_KALLSYMS = Path("/proc/kallsyms")
_NOTES = Path("/sys/kernel/notes")

# Source: s_show() in the kernel's kernel/kallsyms.c, "%px %c %s\t[%s]\n".
_LINE = re.compile(r"([0-9a-fA-F]{8,16}) ([A-Za-z?]) ([!-~]+)(?:[ \t]+\[([!-~]+)\])?[ \t\r]*")
_FORM = "a symbol is a line of address, type letter and name, as in /proc/kallsyms"
_PLACEHOLDER = "The real System.map is in"


def _bad_line(origin: str, number: int, line: str) -> KbridgeError:
    if _PLACEHOLDER in line:
        return KbridgeError(
            f"{origin}: a placeholder that names a package, not a System.map",
            hint="read the kernel's own image instead: /boot/vmlinuz-RELEASE",
        )
    return KbridgeError(f"{origin}: line {number} is no symbol: {line[:60]!r}", hint=_FORM)


def parse(
    text: str,
    *,
    release: str = "",
    build_id: str = "",
    origin: str = "kallsyms",
    modules: bool = False,
) -> SymbolTable:
    """The symbols in text of the form 'address type name [module]', one a line.

    Symbols of modules (and of BPF and ftrace, which kallsyms lists as modules) are left out
    unless `modules`.  Raises KbridgeError for anything else than such text.
    """
    symbols = []
    for number, line in enumerate(text.split("\n"), 1):
        fields = _LINE.fullmatch(line)
        if fields is None:
            if line.strip():
                raise _bad_line(origin, number, line)
            continue
        address, letter, name, module = fields.groups()
        if module is None or modules:
            symbols.append(Symbol(int(address, 16), letter, name))
    if not symbols:
        raise KbridgeError(f"{origin}: no symbols in it", hint=_FORM)
    return SymbolTable(symbols, release, build_id, origin)


def _running_build_id() -> str:
    try:
        return build_id_in(_NOTES.read_bytes())
    except OSError:
        return ""  # sysfs is not mounted: the table is still right, it only cannot be checked


def running(*, modules: bool = False) -> SymbolTable:
    """The symbols of the running kernel, at their slid addresses.

    Raises KbridgeError where the kernel hides its addresses or has no kallsyms.
    """
    try:
        text = _KALLSYMS.read_text(encoding="utf-8", errors="replace")
    except OSError as problem:
        raise KbridgeError(
            f"cannot read {_KALLSYMS}: {problem.strerror}",
            hint="the kernel needs CONFIG_KALLSYMS, and /proc must be mounted",
        ) from problem
    table = parse(
        text,
        release=platform.release(),
        build_id=_running_build_id(),
        origin=str(_KALLSYMS),
        modules=modules,
    )
    # Source: kallsyms_show_value() in kernel/ksyms_common.c (kernel/kallsyms.c before 6.5).
    if not any(symbol.address for symbol in table.symbols):
        raise KbridgeError(
            f"{_KALLSYMS}: the kernel hides its addresses, all are zero",
            hint="read it as root; where that does not help: sysctl -w kernel.kptr_restrict=1",
        )
    return table
