# SPDX-License-Identifier: GPL-2.0-only
"""Source lines of places in a relocatable object, for error messages.

Slow, so it is asked only when there is something to complain about.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from elftools.elf.elffile import ELFFile

from kbridge import dwarf
from kbridge import elf as reader

_R_X86_64_64 = 1
_DW_LNE_SET_ADDRESS = 2


class SourceLines:
    """The line table of an object, by section: the sections of a .o all start at address 0."""

    def __init__(self, elf: ELFFile, name: str) -> None:
        self.name = name
        self._rows: dict[int, list[tuple[int, str, int]]] = {}
        debug = dwarf.information(elf)
        if debug is not None:
            sections = _sequence_sections(elf)
            for unit in debug.iter_CUs():
                program = debug.line_program_for_CU(unit)
                if program is not None:
                    self._read(program, sections)
        for rows in self._rows.values():
            rows.sort()

    def _read(self, program: Any, sections: Iterator[int]) -> None:
        files = _file_names(program)
        first = 0 if program["version"] >= 5 else 1
        section = -1
        for entry in program.get_entries():
            if entry.is_extended and entry.command == _DW_LNE_SET_ADDRESS:
                section = next(sections, -1)
            state = entry.state
            if state is None or section < 0:
                continue
            index = state.file - first
            file = files[index] if 0 <= index < len(files) else self.name
            self._rows.setdefault(section, []).append((state.address, file, state.line))

    def at(self, section: int, offset: int) -> str:
        """'file.c:12' for a byte offset into a section of code, else the object's name."""
        best = None
        for row in self._rows.get(section, []):
            if row[0] > offset:
                break
            best = row
        return f"{best[1]}:{best[2]}" if best else self.name


def _file_names(program: Any) -> list[str]:
    folders = [_text(folder) for folder in program["include_directory"]]
    if program["version"] < 5:
        folders.insert(0, "")
    names = []
    for entry in program["file_entry"]:
        folder = folders[entry.dir_index] if 0 < entry.dir_index < len(folders) else ""
        names.append(str(Path(folder) / _text(entry.name)))
    return names


def _text(value: bytes | str) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _sequence_sections(elf: ELFFile) -> Iterator[int]:
    """The section that each sequence of the line table is about, from its relocations."""
    relocations = reader.section(elf, ".rela.debug_line")
    symbols = reader.section(elf, ".symtab")
    if relocations is None or symbols is None:
        return
    for relocation in relocations.iter_relocations():
        if relocation["r_info_type"] == _R_X86_64_64:
            section = symbols.get_symbol(relocation["r_info_sym"])["st_shndx"]
            yield section if isinstance(section, int) else -1


def _variable_at(elf: ELFFile, section: int, offset: int) -> str | None:
    symbols = reader.section(elf, ".symtab")
    for symbol in symbols.iter_symbols() if symbols is not None else ():
        inside = symbol["st_value"] <= offset < symbol["st_value"] + symbol["st_size"]
        if symbol["st_shndx"] == section and inside:
            return str(symbol.name)
    return None


def _declaration(debug: Any, name: str) -> str | None:
    """'file.c:12' of a variable: data has no line table, only the variable's own entry."""
    for unit in debug.iter_CUs():
        program = debug.line_program_for_CU(unit)
        for die in unit.get_top_DIE().iter_children():
            known = die.attributes
            if die.tag != "DW_TAG_variable" or "DW_AT_decl_line" not in known or not program:
                continue
            if "DW_AT_name" in known and _text(known["DW_AT_name"].value) == name:
                index = known["DW_AT_decl_file"].value - (0 if program["version"] >= 5 else 1)
                return f"{_file_names(program)[index]}:{known['DW_AT_decl_line'].value}"
    return None


def locate(path: Path, section: int, offset: int) -> str:
    """The source line of a place in the object file `path`, or the variable that it is in."""
    with path.open("rb") as stream:
        elf = ELFFile(stream)
        line = SourceLines(elf, path.name).at(section, offset)
        name = _variable_at(elf, section, offset)
        if line != path.name or name is None:
            return line
        debug = dwarf.information(elf)
        place = _declaration(debug, name) if debug is not None else None
        return f"{place}: in {name}" if place else f"in {name}"
