# SPDX-License-Identifier: GPL-2.0-only
"""Tells the objects of `kbridge pic` and `kbridge pack` from an app's, by what is in them.

An object of one kmod source has a local symbol that names its kernel; a packed one has the
section of its image, and a description of it that ld leaves out of programs.  Not for making
them: kcompile.py and pack.py.
"""

from __future__ import annotations

import json
import stat
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

FORMAT = 1  # of the description: another number where its fields mean something else
# of each field its type, and that of what is in it
_FIELDS: dict[str, tuple[type, type | None]] = {
    "gates": (list, str),
    "no_gate": (dict, str),
    "imports": (list, str),
    "addresses": (list, int),
    "from_text": (dict, int),
    "image_size": (int, None),
    "mode": (str, None),
    "stub": (dict, bool),
    "release": (str, None),
    "build_id": (str, None),
}


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
        if stat.S_ISFIFO(path.stat().st_mode):  # would wait for a writer
            raise UsageError(f"{path}: a pipe, and no object", hint="name a file")
        with path.open("rb") as stream:
            if stream.read(len(_ELF)) != _ELF:
                return Object(path, Kind.OTHER)
            elf = ELFFile(stream)
            return _read(elf, path) if elf["e_type"] == "ET_REL" else Object(path, Kind.OTHER)
    except KbridgeError:
        raise
    except FileNotFoundError as problem:
        raise UsageError(f"{path}: no such object", hint="check the path") from problem
    except OSError as problem:
        raise KbridgeError(f"cannot read {path}: {problem.strerror}") from problem
    except Exception as problem:  # pyelftools raises whatever damage leads it to
        raise KbridgeError(f"{path}: a damaged object", hint="compile it again") from problem


def _is_field(known: dict[str, Any], name: str) -> bool:
    of_all, of_each = _FIELDS[name]
    if not isinstance(known.get(name), of_all):
        return False
    if of_each is None:
        return True
    each = known[name].values() if of_all is dict else known[name]
    return all(isinstance(one, of_each) for one in each)


def _described(text: bytes, path: Path) -> dict[str, Any]:
    """The description, if it is one.  Raises ValueError, and KbridgeError for another kbridge's."""
    known = json.loads(text)
    if not isinstance(known, dict):
        raise ValueError
    if known.get("format") != FORMAT:
        raise KbridgeError(
            f"{path}: packed by another version of kbridge", hint="make it again: kbridge pack"
        )
    if not all(_is_field(known, name) for name in _FIELDS):
        raise ValueError
    return known


def unpack(path: Path) -> tuple[dict[str, Any], bytes]:
    """The description and the image of a packed object."""
    try:
        with path.open("rb") as stream:
            elf = ELFFile(stream)
            image, text = (reader.section(elf, name).data() for name in (_IMAGE, _DESCRIPTION))
        return _described(text, path), image
    except (AttributeError, ELFError, OSError, ValueError) as problem:
        raise KbridgeError(
            f"{path}: not what kbridge pack wrote, or damaged", hint="make it again: kbridge pack"
        ) from problem
