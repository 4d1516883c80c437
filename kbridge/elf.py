# SPDX-License-Identifier: GPL-2.0-only
"""The little that kbridge adds to pyelftools: sections by name, of whatever kind they are, and its
own notes by their numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from elftools.elf.elffile import ELFFile

NOTE_NAME = "kbridge"
NOTE_KERNEL, NOTE_MODULES, NOTE_PLACES, NOTE_SYMBOLS, NOTE_INTERFACE = 1, 2, 3, 5, 6
# what pyelftools makes of their numbers
_NOTE_TYPES = {
    "NT_GNU_ABI_TAG": 1, "NT_VERSION": 1, "NT_PRSTATUS": 1,
    "NT_GNU_HWCAP": 2, "NT_ARCH": 2, "NT_FPREGSET": 2,
    "NT_GNU_BUILD_ID": 3, "NT_PRPSINFO": 3,
    "NT_GNU_PROPERTY_TYPE_0": 5,
    "NT_AUXV": 6,
}  # fmt: skip


def section(elf: ELFFile, name: str) -> Any:
    """The section of that name, None if there is none.

    pyelftools knows at run time only which kind of section a name stands for.
    """
    return elf.get_section_by_name(name)


def own_notes(holders: Iterable[Any]) -> Iterator[tuple[int, bytes]]:
    """The number and the bytes of each of kbridge's notes in these sections or segments."""
    for holder in holders:
        for note in holder.iter_notes():
            kind = _NOTE_TYPES.get(note["n_type"], note["n_type"])
            if note["n_name"] == NOTE_NAME and isinstance(kind, int):
                yield kind, bytes(note["n_descdata"])
