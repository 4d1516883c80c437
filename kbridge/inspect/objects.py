# SPDX-License-Identifier: GPL-2.0-only
"""Makes a view of a relocatable file: a kmod's object, or a module (.ko).

The sections are laid out one after the other, and references between them are filled in, as a
linker would.  Refuses nothing: pack.py does, when an image is made of it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from elftools.elf.constants import SH_FLAGS

from kbridge import elf as reader
from kbridge.inspect import view as views
from kbridge.inspect.view import Function, Reference, Region, Variable, View
from kbridge.pack import PAGE, R_PC32, R_PLT32

_PERCPU = ".data..percpu"
# symbols that no kernel has to bring
THIS_MODULE = "__this_module"
TRACER = "__fentry__"  # kbridge makes NOPs of its calls


@dataclass
class Relocatable:
    """The view, and what is read beside it.

    `undefined`: name -> weak, of symbols that others have to define.  `modinfo`: its KEY=VALUE
    strings.  `places`: the view's address of each section, by its number.
    """

    view: View
    undefined: dict[str, bool] = field(default_factory=dict)
    modinfo: list[tuple[str, str]] = field(default_factory=list)
    places: dict[int, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    is_module: bool = False


class _Reader:
    def __init__(self, elf: Any) -> None:
        self.sections: list[Any] = list(elf.iter_sections())
        table = reader.section(elf, ".symtab")
        self.symbols: list[Any] = list(table.iter_symbols()) if table is not None else []
        self.out = Relocatable(View())
        self.percpu: dict[int, int] = {}
        self.contents: dict[int, bytearray] = {}

    def lay_out(self) -> None:
        position, area = PAGE, 0
        sizes = {"text": 0, "rodata": 0, "data": 0, "percpu": 0}
        for index, section in enumerate(self.sections):
            flags, size = section["sh_flags"], section["sh_size"]
            if not flags & SH_FLAGS.SHF_ALLOC or section["sh_type"] == "SHT_NULL":
                continue
            if section.name.startswith(_PERCPU):
                area = -(-area // 64) * 64
                self.percpu[index] = area
                area += size
                continue
            self.out.places[index] = position
            self.contents[index] = bytearray(
                b"" if section["sh_type"] == "SHT_NOBITS" else section.data()
            )
            position += -(-size // PAGE) * PAGE + PAGE
            writable = flags & SH_FLAGS.SHF_WRITE
            kind = "data" if writable else "rodata"
            sizes["text" if flags & SH_FLAGS.SHF_EXECINSTR else kind] += size
        sizes["percpu"] = area
        self.out.sizes = sizes

    def name_things(self) -> None:
        view = self.out.view
        for symbol in self.symbols:
            where, kind = symbol["st_shndx"], symbol["st_info"]["type"]
            value, size, bind = symbol["st_value"], symbol["st_size"], symbol["st_info"]["bind"]
            if where == "SHN_UNDEF" and symbol.name and bind != "STB_LOCAL":
                self.out.undefined[symbol.name] = bind == "STB_WEAK"
            elif where in self.percpu and kind == "STT_OBJECT":
                view.variables.append(Variable(self.percpu[where] + value, size, symbol.name))
            elif where in self.out.places and kind == "STT_FUNC":
                start = self.out.places[where] + value
                view.functions.append(Function(start, size, symbol.name, bind != "STB_LOCAL"))

    def _target(self, symbol: Any, addend: int) -> tuple[str, str, int]:
        where = symbol["st_shndx"]
        if where in self.out.places:
            value = self.out.places[where] + symbol["st_value"] + addend
            return views.INSIDE, symbol.name, value
        if where in self.percpu:
            value = self.percpu[where] + symbol["st_value"] + addend
            return views.PERCPU, symbol.name, value
        if where == "SHN_UNDEF" and symbol.name not in ("", THIS_MODULE):
            return views.IMPORT, symbol.name, addend
        return views.OTHER, symbol.name, addend

    def _relocations(self) -> Iterator[tuple[int, Any]]:
        for section in self.sections:
            if section["sh_type"] == "SHT_RELA" and section["sh_info"] in self.out.places:
                for relocation in section.iter_relocations():
                    yield section["sh_info"], relocation

    def refer(self) -> None:
        for index, relocation in self._relocations():
            type_, offset = relocation["r_info_type"], relocation["r_offset"]
            if not type_:
                continue
            symbol = self.symbols[relocation["r_info_sym"]]
            kind, name, value = self._target(symbol, relocation["r_addend"])
            at = self.out.places[index] + offset
            self.out.view.references.append(Reference(at, type_, kind, name, value))
            content = self.contents[index]
            if kind == views.INSIDE and type_ in (R_PC32, R_PLT32) and offset + 4 <= len(content):
                struct.pack_into("<I", content, offset, (value - at) & 0xFFFFFFFF)

    def read(self) -> Relocatable:
        self.lay_out()
        self.name_things()
        self.refer()
        for index, start in self.out.places.items():
            section = self.sections[index]
            executable = bool(section["sh_flags"] & SH_FLAGS.SHF_EXECINSTR)
            content = bytes(self.contents[index])
            size = section["sh_size"]
            region = Region(section.name, start, size, executable, content, index)
            self.out.view.regions.append(region)
        self.out.view.finish()
        return self.out


def _modinfo(elf: Any) -> list[tuple[str, str]]:
    section = reader.section(elf, ".modinfo")
    if section is None or section["sh_type"] == "SHT_NOBITS":
        return []
    words = section.data().decode("utf-8", "replace").split("\0")
    return [(key, value) for key, _, value in (word.partition("=") for word in words) if key]


def read(elf: Any) -> Relocatable:
    """The view of a relocatable ELF file, and what belongs to it."""
    found = _Reader(elf).read()
    found.modinfo = _modinfo(elf)
    # Source: scripts/mod/modpost.c, add_header(); only modpost's own file has that section
    found.is_module = reader.section(elf, ".gnu.linkonce.this_module") is not None
    return found
