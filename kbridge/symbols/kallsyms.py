# SPDX-License-Identifier: GPL-2.0-only
"""Reads symbols from text: /proc/kallsyms of the running kernel, a copy of it, or a System.map.

Such text is what a damaged file or a careless editor easily passes for, so whatever a kernel would
not write is refused: a wrong address is worse than none.

Not for kernel images (image.py).
"""

from __future__ import annotations

import bisect
import itertools
import platform
import re
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from kbridge.errors import KbridgeError
from kbridge.symbols.notes import build_id as build_id_in
from kbridge.symbols.table import LONGEST_NAME, Columns, Symbol, SymbolTable
from kbridge.symbols.tables import KERNEL_BASE

FILE = Path("/proc/kallsyms")
_NOTES = Path("/sys/kernel/notes")

# Source: s_show() in the kernel's kernel/kallsyms.c, "%px %c %s\t[%s]\n".
_LINE = re.compile(r"([0-9a-fA-F]{16}) ([A-Za-z?]) ([!-~]+)(?:[ \t]+\[([!-~]+)\])?[ \t]*")
_UNIFORM = re.compile(rb"(?:[0-9a-f]{16} [A-Za-z?] [!-~]+\n)+")
_NARROW = re.compile(r"[0-9a-f]{8} [A-Za-z?] [!-~]+")
# what the kernel makes as it runs, and unmakes without anybody's knowing
_NO_MODULE = re.compile("bpf|__builtin__.*").fullmatch
_FORM = "a symbol is a line of address, type letter and name, as in /proc/kallsyms"
_PLACEHOLDER = "The real System.map is in"

# Below it: per-CPU offsets and absolute constants.  From here to KERNEL_BASE x86-64 has no symbols.
_LOW_END = 1 << 32


class _Line(NamedTuple):
    symbol: Symbol
    module: str  # '' for the kernel itself


def _bad_line(origin: str, number: int, line: str) -> KbridgeError:
    if _PLACEHOLDER in line:
        return KbridgeError(
            f"{origin}: a placeholder that names a package, not a System.map",
            hint="read the kernel's own image instead: /boot/vmlinuz-RELEASE",
        )
    if line.endswith("\r"):
        return KbridgeError(
            f"{origin}: line {number} ends in CR LF, so something has changed this file",
            hint="copy it again as binary, or: sed -i 's/\\r$//' FILE",
        )
    if _NARROW.match(line):
        return KbridgeError(
            f"{origin}: line {number} has a 32-bit address: {line[:60]!r}",
            hint="kbridge supports x86-64 kernels",
        )
    return KbridgeError(f"{origin}: line {number} is no symbol: {line[:60]!r}", hint=_FORM)


def _lines(content: bytes, origin: str, first: int) -> Iterator[_Line]:
    """Any text; `first` is the number of its first line."""
    text = content.decode("utf-8", errors="replace")
    for number, line in enumerate(text.split("\n"), first):
        fields = _LINE.fullmatch(line)
        if fields is not None:
            address, letter, name, module = fields.groups()
            yield _Line(Symbol(int(address, 16), letter, name), module or "")
        elif line.strip(" \t"):
            raise _bad_line(origin, number, line)


def _uniform(content: bytes) -> Columns | None:
    """The symbols where every line is just as the kernel writes it, modules aside: much faster."""
    if not _UNIFORM.fullmatch(content):
        return None
    words = content.decode("ascii").split()
    addresses = array("Q", bytes.fromhex("".join(words[0::3])))
    if sys.byteorder == "little":
        addresses.byteswap()
    return Columns(addresses, "".join(words[1::3]), words[2::3])


def _joined(columns: Columns, more: Sequence[Symbol]) -> Columns:
    if not more:
        return columns
    tail = Columns.of(more)
    addresses = [*columns.addresses, *tail.addresses]
    return Columns(addresses, columns.types + tail.types, [*columns.names, *tail.names])


def _kernel_and_modules(content: bytes, origin: str) -> tuple[Columns, list[_Line]]:
    """The kernel's symbols, and the lines of modules, which kallsyms has after them."""
    start = content.rfind(b"\n", 0, content.find(b"\t") + 1 or len(content)) + 1
    columns = _uniform(content[:start])
    if columns is None:
        columns, start = Columns([], "", []), 0
    lines = list(_lines(content[start:], origin, len(columns) + 1))
    own = [one.symbol for one in lines if not one.module]
    return _joined(columns, own), [one for one in lines if one.module]


def _check_text(content: bytes, origin: str) -> None:
    if content.strip() and not content.endswith(b"\n"):
        raise KbridgeError(
            f"{origin}: cut off: the last line has no end",
            hint="copy it again, whole",
        )


def _check_addresses(columns: Columns, origin: str) -> None:
    """Raise KbridgeError for addresses that no x86-64 kernel shows."""
    addresses = list(columns.addresses)
    if not any(addresses):
        # Source: kallsyms_show_value() in kernel/ksyms_common.c (kernel/kallsyms.c before 6.5).
        raise KbridgeError(
            f"{origin}: the kernel hides its addresses, all addresses are zero",
            hint="read /proc/kallsyms as root; where that does not help: "
            "sysctl -w kernel.kptr_restrict=1",
        )
    if addresses != sorted(addresses):
        at = next(i for i, (a, b) in enumerate(itertools.pairwise(addresses), 2) if a > b)
        raise KbridgeError(
            f"{origin}: not sorted: symbol {at} lies below the one before it",
            hint="kallsyms and System.map are sorted by address: copy it again, or sort FILE",
        )
    odd = bisect.bisect_left(addresses, _LOW_END)
    if odd == len(addresses) or addresses[odd] < KERNEL_BASE:
        shown = columns[min(odd, len(addresses) - 1)]
        raise KbridgeError(
            f"{origin}: not an x86-64 kernel: {shown.name} is at {shown.address:#x}",
            hint=f"kbridge supports x86-64 kernels, which lie above {KERNEL_BASE:#x}",
        )


def _check_names(names: Iterable[str], origin: str) -> None:
    longest = max(names, key=len, default="")
    if len(longest) > LONGEST_NAME:
        raise KbridgeError(
            f"{origin}: a name of {len(longest)} characters, {longest[:40]}...: the kernel's have "
            f"{LONGEST_NAME} at most",
            hint="the file is damaged: copy it again",
        )


def _check_modules(lines: Iterable[_Line], origin: str) -> None:
    """Modules are not sorted, but lie above the kernel; their per-CPU variables have offsets."""
    for (address, _, name), module in lines:
        if not address or _LOW_END <= address < KERNEL_BASE:
            raise KbridgeError(
                f"{origin}: {name} of the module {module} is at {address:#x}, where none can be",
                hint="the file is damaged: copy it again, as root",
            )


def _with_modules(columns: Columns, lines: Sequence[_Line], origin: str) -> Columns:
    """Also the modules' symbols, where the kernel has none of that name: its own come first."""
    _check_modules(lines, origin)
    own = set(columns.names)
    more = [one for one in lines if one.symbol.name not in own and not _NO_MODULE(one.module)]
    return _joined(columns, [one.symbol for one in more])


def parse(
    content: bytes,
    *,
    release: str = "",
    build_id: str = "",
    origin: str = "kallsyms",
    modules: bool = False,
) -> SymbolTable:
    """The symbols in text of the form 'address type name [module]', one a line.

    Symbols of modules (and of BPF and ftrace, which kallsyms lists as modules) are left out
    unless `modules`.  Raises KbridgeError for anything else than such text, and for symbols that
    are not sorted, all zero, or not of an x86-64 kernel.
    """
    _check_text(content, origin)
    columns, lines = _kernel_and_modules(content, origin)
    if not columns:
        raise KbridgeError(f"{origin}: no symbols in it", hint=_FORM)
    _check_addresses(columns, origin)
    if modules:
        columns = _with_modules(columns, lines, origin)
    _check_names(columns.names, origin)
    return SymbolTable(columns, release, build_id, origin)


def of_modules(content: bytes, names: Iterable[str], origin: str) -> Columns:
    """The symbols of these loaded modules in the content of /proc/kallsyms."""
    _check_text(content, origin)
    columns, lines = _kernel_and_modules(content, origin)
    _check_addresses(columns, origin)
    wanted = set(names)
    chosen = [one for one in lines if one.module in wanted]
    _check_modules(chosen, origin)
    found = Columns.of([one.symbol for one in chosen])
    _check_names(found.names, origin)
    return found


def running_build_id() -> str:
    """The running kernel's build ID in hex, or '' where it tells none."""
    try:
        return build_id_in(_NOTES.read_bytes())
    except OSError:
        return ""  # sysfs is not mounted: the table is still right, it only cannot be checked


def read_running() -> bytes:
    """The content of /proc/kallsyms.  Raises KbridgeError where there is none."""
    try:
        return FILE.read_bytes()
    except OSError as problem:
        raise KbridgeError(
            f"cannot read {FILE}: {problem.strerror}",
            hint="the kernel needs CONFIG_KALLSYMS, and /proc must be mounted",
        ) from problem


def running(*, modules: bool = False) -> SymbolTable:
    """The symbols of the running kernel, at their slid addresses.

    Raises KbridgeError where the kernel hides its addresses or has no kallsyms.
    """
    return parse(
        read_running(),
        release=platform.release(),
        build_id=running_build_id(),
        origin=str(FILE),
        modules=modules,
    )
