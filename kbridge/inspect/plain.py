# SPDX-License-Identifier: GPL-2.0-only
"""Makes a view of any other linked file: a kernel image (vmlinux), or a program without a kmod."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from elftools.elf.constants import SH_FLAGS

from kbridge import elf as reader
from kbridge.errors import KbridgeError
from kbridge.inspect.view import Function, Region, View
from kbridge.symbols import image as symbol_image


def is_kernel(elf: Any) -> bool:
    """Source: include/asm-generic/vmlinux.lds.h has both in every kernel with modules."""
    return all(reader.section(elf, name) is not None for name in ("__ksymtab", "__param"))


def _functions(elf: Any) -> list[Function]:
    for name in (".symtab", ".dynsym"):
        table = reader.section(elf, name)
        if table is not None:
            return [
                Function(symbol["st_value"], symbol["st_size"], symbol.name, True)
                for symbol in table.iter_symbols()
                if symbol["st_info"]["type"] == "STT_FUNC" and symbol["st_shndx"] != "SHN_UNDEF"
            ]
    return []


def read(elf: Any) -> View:
    view = View()
    for index, section in enumerate(elf.iter_sections()):
        flags = section["sh_flags"]
        if not flags & SH_FLAGS.SHF_ALLOC or flags & SH_FLAGS.SHF_TLS:
            continue
        executable = bool(flags & SH_FLAGS.SHF_EXECINSTR)
        held = section["sh_type"] != "SHT_NOBITS"
        data = section.data() if held else b""
        region = Region(
            section.name, section["sh_addr"], section["sh_size"], executable, data, index
        )
        if region.size:
            view.regions.append(region)
    if not view.regions:  # sections were taken away: what is loaded to be executed
        for segment in elf.iter_segments():
            if segment["p_type"] == "PT_LOAD" and segment["p_flags"] & 1:
                start, size = segment["p_vaddr"], segment["p_memsz"]
                view.regions.append(Region("segment", start, size, True, segment.data()))
    view.functions += _functions(elf)
    return view.finish()


def read_kernel(elf: Any, path: Path) -> tuple[View, tuple[str, str]]:
    """The view of a kernel image, its release and build ID.

    A stripped image still has the tables of kallsyms: then these name its functions.
    """
    view = read(elf)
    try:
        table = symbol_image.cached(path)
    except KbridgeError:
        return view, ("", "")
    if not view.functions:
        code = {one.address: one.name for one in table.symbols if one.is_function}
        view.functions += [Function(address, 0, name) for address, name in code.items()]
        view.finish()
    return view, (table.release, table.build_id)
