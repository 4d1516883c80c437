# SPDX-License-Identifier: GPL-2.0-only
"""Which source file a static symbol is from, as the symbol table of a vmlinux says.

Packed images have no symbol table; the vmlinux of one's own build has one, and so has that of a
distribution's debug package.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kbridge import elf as elf_reader
from kbridge.errors import KbridgeError
from kbridge.symbols.table import Symbol


def vmlinux_of(release: str, kdir: Path | None = None) -> Path | None:
    """The vmlinux with symbols of that kernel, where its build or a debug package left one.

    Header packages have a vmlinux too, with the types (BTF) and no symbols.
    """
    places = [
        *([kdir / "vmlinux"] if kdir else []),
        Path("/usr/lib/debug/boot") / f"vmlinux-{release}",
        Path("/usr/lib/debug/lib/modules") / release / "vmlinux",
        Path("/lib/modules") / release / "build" / "vmlinux",
    ]
    return next((place for place in places if has_symbols(place)), None)


def has_symbols(vmlinux: Path) -> bool:
    """Whether the file is an ELF file with a symbol table."""
    from elftools.elf.elffile import ELFFile

    try:
        with vmlinux.open("rb") as stream:
            return elf_reader.section(ELFFile(stream), ".symtab") is not None
    except Exception:  # pyelftools raises whatever damage, or no ELF file, leads it to
        return False


def _rows(elf: Any) -> Iterable[tuple[str, str, str, int]]:
    """(type, binding, name, value) of each symbol."""
    table = elf_reader.section(elf, ".symtab")
    for one in table.iter_symbols() if table else ():
        yield one["st_info"]["type"], one["st_info"]["bind"], one.name, one["st_value"]


def of(vmlinux: Path, name: str) -> dict[int, set[str]]:
    """Address of each definition of `name` to the files it is from; '' for a global one.

    Source: ELF gABI, 'Symbol Table': a file's local symbols follow its STT_FILE symbol.
    """
    from elftools.elf.elffile import ELFFile

    found: dict[int, set[str]] = {}
    file = ""
    try:
        with vmlinux.open("rb") as stream:
            for type_, binding, this, value in _rows(ELFFile(stream)):
                if type_ == "STT_FILE":
                    file = this
                elif this == name:
                    found.setdefault(value, set()).add(file if binding == "STB_LOCAL" else "")
    except Exception as problem:  # pyelftools raises whatever damage leads it to
        raise KbridgeError(f"{vmlinux}: cannot read its symbols ({problem})") from problem
    return found


def choose(vmlinux: Path, name: str, file: str, candidates: Iterable[Symbol]) -> list[Symbol]:
    """The candidates that are from `file`, of which the compiler keeps the last part only."""
    known = of(vmlinux, name)
    wanted = Path(file).name
    return [one for one in candidates if wanted in known.get(one.address, ())]
