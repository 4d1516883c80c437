# SPDX-License-Identifier: GPL-2.0-only
"""Opens the debug information of a relocatable object.

pyelftools reads DWARF well, and applies relocations slowly: a parsed structure each, 0.1 s for a
small kmod and several seconds for a big one.  Here the few types that debug sections have (psABI,
table 4.9) are applied to the bytes that it then reads.
"""

from __future__ import annotations

import os
import struct
from typing import Any

from elftools.elf.elffile import ELFFile

from kbridge import elf as reader

_RELA = struct.Struct("<QQq")
# R_X86_64_64, _32 and _32S: how a value is written, and what of it
_FORMS = {1: ("<Q", (1 << 64) - 1), 10: ("<I", (1 << 32) - 1), 11: ("<I", (1 << 32) - 1)}


_last: tuple[object, Any] = (None, None)  # what identifies a file, and its DWARFInfo


def information(elf: ELFFile) -> Any:
    """pyelftools' DWARFInfo of an object, relocated: each section at address 0; None without.

    That of the last file is kept, with what was parsed of it: a build asks for it twice.
    """
    global _last
    try:
        status = os.fstat(elf.stream.fileno())
    except (AttributeError, OSError):
        return _information(elf)
    key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    if _last[0] != key:
        _last = (key, _information(elf))
    return _last[1]


def _information(elf: ELFFile) -> Any:
    if not elf.has_dwarf_info(strict=True):
        return None
    found = elf.get_dwarf_info(relocate_dwarf_sections=False)
    values = _values(elf)
    for name, section in vars(found).items():
        if not name.startswith("debug_") or section is None:
            continue
        relocations = reader.section(elf, f".rela.{name.removesuffix('_sec')}")
        if relocations is not None:
            _apply(section.stream.getbuffer(), relocations.data(), values)
    return found


def _values(elf: ELFFile) -> list[int]:
    table = reader.section(elf, ".symtab")
    if table is None:
        return []
    # st_value of each struct elf64_sym
    return [value for (value,) in struct.iter_unpack("<8xQ8x", table.data())]


def _apply(content: Any, relocations: bytes, values: list[int]) -> None:
    for offset, info, addend in _RELA.iter_unpack(relocations):
        kind = info & 0xFFFFFFFF
        if kind in _FORMS:
            form, mask = _FORMS[kind]
            struct.pack_into(form, content, offset, (values[info >> 32] + addend) & mask)
