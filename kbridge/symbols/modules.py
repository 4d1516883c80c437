# SPDX-License-Identifier: GPL-2.0-only
"""Symbols of the modules that are loaded now, at their addresses of this moment.

A module's addresses are its own: they change with every load, and no other slide applies to them.
They come from /proc/kallsyms; a list of modules (/proc/modules) says of which modules.
"""

from __future__ import annotations

import platform
import re
from pathlib import Path

from kbridge.errors import KbridgeError
from kbridge.symbols import kallsyms
from kbridge.symbols.table import SymbolTable

FILE = Path("/proc/modules")

# Source: m_show() in the kernel's kernel/module/procfs.c (kernel/module.c before 5.19): name, size,
# uses, users, state, address, taints.
_LINE = re.compile(
    rb"(?P<name>[!-~]+) \d+ (?:\d+|-) [!-~]+ (?P<state>Live|Loading|Unloading) "
    rb"0x(?P<address>[0-9a-f]+)(?: [!-~]+)?[ \t]*\n"
)
_AGAIN = f"read {FILE} of the running kernel, as root"


def is_list(start: bytes) -> bool:
    """Whether text that starts like this is a list of modules."""
    return _LINE.match(start) is not None


def _live(content: bytes, origin: str) -> dict[str, int]:
    """Modules in state Live: name and address."""
    found: dict[str, int] = {}
    for number, line in enumerate(content.splitlines(keepends=True), 1):
        fields = _LINE.fullmatch(line)
        if fields is None:
            raise KbridgeError(f"{origin}: line {number} is not one of {FILE}", hint=_AGAIN)
        if fields["state"] == b"Live":
            found[fields["name"].decode("ascii")] = int(fields["address"], 16)
    return found


def read(content: bytes, origin: str) -> SymbolTable:
    """The symbols of the modules in `content`, a list as /proc/modules has it.

    Raises KbridgeError for a list that is not of this moment: a module of it that is not loaded,
    or lies elsewhere.
    """
    listed = _live(content, origin)
    now = _live(FILE.read_bytes(), str(FILE)) if FILE.exists() else {}
    gone = [name for name, address in listed.items() if now.get(name) != address]
    if gone:
        raise KbridgeError(
            f"{origin}: the module {gone[0]} is not loaded now, or lies elsewhere",
            hint=f"modules move with every load: {_AGAIN}",
        )
    if not any(listed.values()):
        raise KbridgeError(f"{origin}: the kernel hides its modules' addresses", hint=_AGAIN)
    columns = kallsyms.of_modules(kallsyms.read_running(), listed, str(kallsyms.FILE))
    return SymbolTable(columns, platform.release(), kallsyms.running_build_id(), origin)
