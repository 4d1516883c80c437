# SPDX-License-Identifier: GPL-2.0-only
"""Which kernel symbols objects and programs refer to, for a libkernel.so of these alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kbridge import elf as elf_reader
from kbridge.errors import KbridgeError, UsageError
from kbridge.libkernel import VERSION
from kbridge.symbols.table import SymbolTable

_ARCHIVE = b"!<arch>\n"
_LINKERS = frozenset({"_GLOBAL_OFFSET_TABLE_", "_DYNAMIC"})  # ld defines them


@dataclass
class Needed:
    """Undefined names: of those that say they are the kernel's (NAME@LINUX_KERNEL), those that do
    not say whose, and of these that the kernel does not have."""

    kernel: set[str] = field(default_factory=set)
    plain: set[str] = field(default_factory=set)
    others: set[str] = field(default_factory=set)


def _of_object(elf: Any, found: Needed) -> None:
    table = elf_reader.section(elf, ".symtab")
    for one in table.iter_symbols() if table else ():
        if one["st_shndx"] == "SHN_UNDEF" and one.name and one.name not in _LINKERS:
            name, _, version = one.name.partition("@")
            (found.kernel if version == VERSION else found.plain).add(name)


def _of_linked(elf: Any, found: Needed) -> None:
    """Of programs and libraries only what is bound to the version: the rest is user space's."""
    symbols = elf_reader.section(elf, ".dynsym")
    versions = elf_reader.section(elf, ".gnu.version")
    needed = elf_reader.section(elf, ".gnu.version_r")
    if not (symbols and versions and needed):
        return
    for index, one in enumerate(symbols.iter_symbols()):
        number = versions.get_symbol(index)["ndx"]
        known = needed.get_version(number) if isinstance(number, int) else None
        if one["st_shndx"] == "SHN_UNDEF" and known and known[1].name == VERSION:
            found.kernel.add(one.name)


def _read(path: Path, found: Needed) -> None:
    from elftools.elf.elffile import ELFFile

    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise UsageError(f"{path}: not a regular file", hint="copy it to one first")
        with path.open("rb") as stream:
            if stream.read(len(_ARCHIVE)) == _ARCHIVE:
                raise UsageError(f"{path}: an archive", hint="name the objects in it: ar x FILE")
            elf = ELFFile(stream)
            of = _of_object if elf["e_type"] == "ET_REL" else _of_linked
            of(elf, found)
    except OSError as problem:
        raise KbridgeError(
            f"cannot read {path}: {problem.strerror}", hint="check the path given to --only-needed"
        ) from problem
    except KbridgeError:
        raise
    except Exception as problem:  # pyelftools raises whatever damage leads it to
        raise KbridgeError(
            f"{path}: not an ELF file, or a damaged one", hint="give objects, programs or libraries"
        ) from problem


def names(paths: Iterable[Path], table: SymbolTable) -> Needed:
    """The names that the files need of this kernel.

    Where a reference does not say whose it is (an object of kernel-style code says nothing), it is
    the kernel's if the kernel has such a symbol.  Raises KbridgeError for files that cannot be
    read, and UnknownSymbol or AmbiguousSymbol for a name that has not one meaning.
    """
    found = Needed()
    for path in paths:
        _read(path, found)
    found.others = {name for name in found.plain if not table.find(name)}
    found.plain -= found.others
    for name in sorted(found.kernel | found.plain):
        table.resolve(name)
    return found
