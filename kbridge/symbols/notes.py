# SPDX-License-Identifier: GPL-2.0-only
"""Reads the build ID out of a kernel's ELF notes.

For the bytes of /sys/kernel/notes and of a PT_NOTE segment; not for kbridge's own note.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

_NT_GNU_BUILD_ID = 3
_HEADER = struct.Struct("<III")


def _padded(size: int) -> int:
    return -(-size // 4) * 4


def _records(notes: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    """(name, type, descriptor) of each note; ends at the first that does not fit.

    Source: ELF gABI, 'Note Section', with the 4-byte alignment that the kernel uses.
    """
    position = 0
    while position + _HEADER.size <= len(notes):
        name_size, size, kind = _HEADER.unpack_from(notes, position)
        name_at = position + _HEADER.size
        content_at = name_at + _padded(name_size)
        if content_at + size > len(notes):
            return
        name = notes[name_at : name_at + name_size].rstrip(b"\0")
        yield name, kind, notes[content_at : content_at + size]
        position = content_at + _padded(size)


def build_id(notes: bytes) -> str:
    """The GNU build ID in hex, or '' where there is none."""
    for name, kind, content in _records(notes):
        if name == b"GNU" and kind == _NT_GNU_BUILD_ID:
            return content.hex()
    return ""
