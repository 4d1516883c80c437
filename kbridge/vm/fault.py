# SPDX-License-Identifier: GPL-2.0-only
"""What a kernel says of a fault, in one line: the cause, the function, its place in the source.

Reads messages that others have collected (console.py, native.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from kbridge import elf as reader
from kbridge import proc
from kbridge.errors import CommandError

# How the kernel begins to tell of a fault: lib/bug.c, arch/x86/mm/fault.c, __die_header() in
# arch/x86/kernel/dumpstack.c (which says "Oops: " before all of them since 6.10 only).  With "ip:"
# it tells of a program's own code.
_CAUSE = re.compile(
    r"kernel BUG at .*!|BUG: (?!scheduling|sleeping|workqueue).*|Oops: .*"
    r"|general protection fault(?! ip:).*|[a-z0-9 ]+: [0-9a-f]{4} \[#\d+\].*"
)
_END = "---[ end trace"
_FUNCTION = r"\S+\+0x[0-9a-f]+/0x[0-9a-f]+(?: \[\S+\])?"
_WHERE = re.compile(rf"RIP: 0010:({_FUNCTION})")
# kernel/kelevate/fault.c; where the fault is not in the image itself, the address is behind a call
_IMAGE = re.compile(rf"kelevate: .+ dies of a fault in ({_FUNCTION})(, at \S+)?")
_PARTS = re.compile(r"(\S+)\+0x([0-9a-f]+)/0x[0-9a-f]+ \[kb:")


@dataclass(frozen=True)
class Fault:
    """`lines`: all that was said.  `function`: of the image, as NAME+OFFSET/SIZE [kb:IMAGE].

    `called`: its offset is that behind a call: the fault was in what it called.
    """

    lines: Sequence[str]
    cause: str
    function: str = ""
    called: bool = False

    def names_line(self) -> bool:
        """Whether the cause has the line, as that of BUG() does."""
        return "kernel BUG at" in self.cause and not self.called

    def text(self, source: str = "") -> str:
        """The one line; `source` is what source_line() found."""
        where = f" in {self.function}" if self.function else ""
        return f"{self.cause}{where}{f' ({source})' if source else ''}"


def _fault(lines: Sequence[str]) -> Fault:
    cause = _CAUSE.search(lines[0])
    said = cause[0].strip() if cause else lines[0]
    own = next(filter(None, map(_IMAGE.search, lines)), None)
    if own:
        return Fault(lines, said, own[1], called=bool(own[2]))
    where = next(filter(None, map(_WHERE.search, lines)), None)
    return Fault(lines, said, where[1] if where else "")


def every(lines: Sequence[str]) -> list[Fault]:
    """All faults, in the order in which they were told."""
    found, start = [], None
    for k, line in enumerate(lines):
        if start is None and _CAUSE.search(line):
            start = k
        elif start is not None and _END in line:
            found.append(_fault(lines[start : k + 1]))
            start = None
    if start is not None:
        found.append(_fault(lines[start:]))
    return found


def last(lines: Sequence[str]) -> Fault | None:
    """The last one of an image; where there is none, the last one of all."""
    found = every(lines)
    found = [one for one in found if _PARTS.match(one.function)] or found
    return found[-1] if found else None


def _offset(elf: ELFFile, name: str) -> int | None:
    """Of a function in the image; None where several have that name."""
    table = reader.section(elf, ".symtab")
    symbols = (table.get_symbol_by_name(name) if table else None) or []
    return int(symbols[0]["st_value"]) if len(symbols) == 1 else None


def source_line(fault: Fault, files: Iterable[Path]) -> str:
    """FILE:LINE by the debug file (-g) of that program or library among `files`, else ""."""
    parts = _PARTS.match(fault.function)
    if not parts or fault.names_line():
        return ""
    from kbridge import debug_info  # a packer of kmods, only for this

    for file in files:
        debug = file.with_name(file.name + debug_info.SUFFIX)
        try:
            with debug.open("rb") as stream:
                elf = ELFFile(stream)
                text, start = reader.section(elf, ".text"), _offset(elf, parts[1])
                # not of an earlier build
                if start is None or text.data() not in file.read_bytes():
                    continue
            address = start + int(parts[2], 16) - fault.called
            place = proc.run(["addr2line", "-e", debug, hex(address)]).stdout.strip()
        except (OSError, ELFError, CommandError):
            continue
        path, _, line = place.partition(" (discriminator")[0].rpartition(":")
        if line.isdigit() and int(line):
            return f"{Path(path).name}:{line}"
    return ""
