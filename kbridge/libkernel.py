# SPDX-License-Identifier: GPL-2.0-only
"""Makes libkernel.so, the library whose symbols are the kernel's.

There are two files with one soname.  The link stub is what programs are linked against; the
run-time file, which has the addresses, is what ld.so loads.  One file cannot be both: GNU ld
copies absolute symbols into whatever it links against them.

Not for the form of ELF files (elfwrite.py), nor for renaming a program's references to the
version LINUX_KERNEL.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from kbridge import elfwrite, log, paths, proc
from kbridge.elfwrite import Export
from kbridge.errors import KbridgeError
from kbridge.symbols.table import SymbolTable
from kbridge.symbols.tables import KERNEL_BASE

SONAME = "libkernel.so"
VERSION = "LINUX_KERNEL"
NOTE_NAME = "kbridge"
KB_NOTE_KERNEL = 1

_ADDRESSES = 1 << 64
_FORM = 1  # of the run-time file; to be raised with every change that old cached files lack

# What ELF tools can take as a name: printable, and no '@', which ends the name before a version.
_NAME = re.compile(r"[!-?A-~]+").fullmatch

_READELF_LINE = re.compile(
    r"^ *\d+: ([0-9a-f]{16}) +0 (FUNC|OBJECT) +GLOBAL (DEFAULT|PROTECTED) +(ABS|\d+) "
    rf"([!-?A-~]+)@{VERSION}(?: \(\d+\))?$",
    re.MULTILINE,
)
_READELF_COUNT = re.compile(r"^Symbol table '\.dynsym' contains (\d+) entr", re.MULTILINE)


_Row = tuple[str, ...]


def kernel_note(release: str, build_id: str) -> bytes:
    """The content of .note.kbridge: for which kernel a file is; see ARCHITECTURE.md."""
    content = f"{release}\0{build_id}\0".encode("ascii")
    return elfwrite.note(NOTE_NAME, KB_NOTE_KERNEL, content)


def _read_back(file: Path) -> list[_Row]:
    """(value, type, visibility, section, name) of each dynamic symbol, as readelf sees it.

    Symbols without the version VERSION, hidden, do not appear.
    """
    output = proc.run(["readelf", "-W", "--dyn-syms", file], what="reading libkernel.so back")
    count = _READELF_COUNT.search(output.stdout)
    found = _READELF_LINE.findall(output.stdout)
    if count is None or int(count[1]) != len(found) + 1:
        raise KbridgeError(
            f"libkernel.so reads back with {len(found)} good symbols of "
            f"{int(count[1]) - 1 if count else 'an unknown number'}",
            hint="this is a defect of kbridge, or of readelf: please report it",
        )
    return found


def _compare(found: Sequence[_Row], exports: Sequence[Export], absolute: bool) -> None:
    """Raise KbridgeError unless readelf found just these symbols, with these values."""
    types = {True: "FUNC", False: "OBJECT"}
    read: set[_Row]
    expected: set[_Row]
    if absolute:
        read = set(found)
        expected = {
            (f"{one.value:016x}", types[one.is_function], "DEFAULT", "ABS", one.name)
            for one in exports
        }
    else:  # the places of a stub's symbols have no meaning
        read = {(*row[1:3], row[4]) for row in found}
        expected = {(types[one.is_function], "PROTECTED", one.name) for one in exports}
    if read != expected or len(found) != len(exports):
        wrong = sorted(read ^ expected)[:3]
        raise KbridgeError(
            f"libkernel.so does not read back as it was written: {wrong}",
            hint="this is a defect of kbridge: please report it",
        )


def _write(
    exports: Sequence[Export], out: Path, *, release: str, build_id: str, absolute: bool
) -> None:
    """Write the file, after another program has read every symbol of it back."""
    odd = [one.name for one in exports if not _NAME(one.name)]
    if odd:
        raise KbridgeError(f"{odd[0]!r} cannot be the name of an ELF symbol")
    content = elfwrite.shared_object(
        exports,
        soname=SONAME,
        version=VERSION,
        note=kernel_note(release, build_id),
        absolute=absolute,
    )
    with paths.scratch() as folder:
        candidate = folder / SONAME
        candidate.write_bytes(content)
        _compare(_read_back(candidate), exports, absolute)
    paths.write_atomically(out, content, mode=0o755)


def _slid(address: int, slide: int) -> int:
    """Kernel text and data move with KASLR by one slide; per-CPU offsets lie below and stay."""
    return address + slide if address >= KERNEL_BASE else address


def write_runtime(table: SymbolTable, out: Path, *, slide: int = 0) -> None:
    """Write the run-time file: every symbol that has one meaning, at its address plus `slide`.

    `slide` is in bytes, how far KASLR has moved the kernel from the addresses in `table`.
    Names with several definitions, none of them the only global one, are left out.  Raises
    KbridgeError when the file does not read back with just these symbols.
    """
    exports = [
        Export(one.name, _slid(one.address, slide), one.is_function) for one in table.resolvable()
    ]
    if any(not 0 <= one.value < _ADDRESSES for one in exports):
        raise KbridgeError(f"a slide of {slide:#x} bytes moves the kernel out of memory")
    _write(exports, out, release=table.release, build_id=table.build_id, absolute=True)


def write_stub(names: Mapping[str, bool], out: Path, *, release: str, build_id: str) -> None:
    """Write the link stub for the symbols in `names`; the values say which are functions."""
    exports = [Export(name, 0, is_function) for name, is_function in names.items()]
    _write(exports, out, release=release, build_id=build_id, absolute=False)


def cached_runtime(table: SymbolTable) -> Path:
    """The run-time file for `table` with slide 0, made once and kept in the user's cache.

    The cache is keyed by the whole table, build ID included: under KASLR the running kernel's
    own symbols have the same build ID as its image's, but other addresses.
    """
    file = paths.cache("libkernel", f"{table.digest()[:32]}-{_FORM}") / SONAME
    if not file.exists():
        log.detail(f"making {SONAME} for kernel {table.release}")
        write_runtime(table, file)
    return file
