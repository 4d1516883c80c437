# SPDX-License-Identifier: GPL-2.0-only
"""Tells the objects of `kbridge pic` and `kbridge pack` from an app's, by what is in them.

An object of one kmod source has a local symbol that names its kernel; a packed one has the
section of its image, and a description of it that ld leaves out of programs.  Not for making
them: kcompile.py and pack.py.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from kbridge import elf as reader
from kbridge.errors import KbridgeError, UsageError

_ELF = b"\x7fELF"
_MARK = "kbridge.kmod."  # no C name has a dot
_IMAGE = ".kbridge"
_DESCRIPTION = ".kbridge.description"


class Kind(Enum):
    APP = "an app's"
    KMOD = "of one kmod source"
    PACKED = "packed"
    OTHER = "no object: a library, an archive, a linker script"


@dataclass(frozen=True)
class Object:
    """What a file to be linked is; `release`: the kernel that it was compiled for, '' if it does
    not say."""

    path: Path
    kind: Kind
    release: str = ""


def mark_command(path: Path, release: str) -> list[str]:
    """The command that has the object at `path` say that it is kernel code, and of which kernel."""
    return ["objcopy", "--add-symbol", f"{_MARK}{release}=1,local", str(path)]


def describe_command(path: Path, description: Path) -> list[str]:
    """The command that lays a description into a packed object."""
    section = f"{_DESCRIPTION}={description}"
    flags = f"{_DESCRIPTION}=readonly,exclude"
    return ["objcopy", "--add-section", section, "--set-section-flags", flags, str(path)]


def _read(elf: Any, path: Path) -> Object:
    if reader.section(elf, _IMAGE):
        return Object(path, Kind.PACKED)
    table = reader.section(elf, ".symtab")
    for index, symbol in enumerate(table.iter_symbols() if table else ()):
        if index and symbol["st_info"]["bind"] != "STB_LOCAL":
            break  # local ones come first, and objects of C++ have very many others
        if symbol["st_shndx"] == "SHN_ABS" and symbol.name.startswith(_MARK):
            return Object(path, Kind.KMOD, symbol.name.removeprefix(_MARK))
    return Object(path, Kind.APP)


def read(path: Path) -> Object:
    """What the file is."""
    try:
        with path.open("rb") as stream:
            if stream.read(len(_ELF)) != _ELF:
                return Object(path, Kind.OTHER)
            elf = ELFFile(stream)
            return _read(elf, path) if elf["e_type"] == "ET_REL" else Object(path, Kind.OTHER)
    except FileNotFoundError as problem:
        raise UsageError(f"{path}: no such object", hint="check the path") from problem
    except OSError as problem:
        raise KbridgeError(f"cannot read {path}: {problem.strerror}") from problem
    except Exception as problem:  # pyelftools raises whatever damage leads it to
        raise KbridgeError(f"{path}: a damaged object", hint="compile it again") from problem


def unpack(path: Path) -> tuple[dict[str, Any], bytes]:
    """The description and the image of a packed object."""
    try:
        with path.open("rb") as stream:
            elf = ELFFile(stream)
            image, text = (reader.section(elf, name).data() for name in (_IMAGE, _DESCRIPTION))
        return dict(json.loads(text)), image
    except (AttributeError, ELFError, OSError, ValueError) as problem:
        raise KbridgeError(
            f"{path}: not what kbridge pack wrote, or damaged", hint="make it again: kbridge pack"
        ) from problem
