# SPDX-License-Identifier: GPL-2.0-only
"""No change of a written libkernel.so passes for what was written."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from kbridge import libkernel
from kbridge.errors import KbridgeError
from kbridge.symbols.table import Columns

TEXT = 0xFFFFFFFF81000000
COLUMNS = Columns(
    [TEXT, TEXT + 0x300, TEXT + 0x300, TEXT + 0x400, TEXT + 0x500, 0x1FB80],
    "TTTtDA",
    ["_stext", "memcpy", "__memcpy", "state.12", "init_task", "pcpu_hot"],
)
HEADER, SEGMENT, SECTION, SYMBOL = 64, 56, 64, 24


def library(*, absolute: bool) -> libkernel.Library:
    origin = libkernel.Origin("6.1.0-test", "ab" * 20, "a test", 0)
    return libkernel.Library(libkernel.exports(COLUMNS), origin, absolute)


def sections(data: bytes) -> list[tuple[int, int, int]]:
    """Type, offset and size of each, where the file has its content."""
    (at,) = struct.unpack_from("<Q", data, 40)
    (count,) = struct.unpack_from("<H", data, 60)
    rows = [struct.unpack_from("<4xI16xQQ", data, at + SECTION * n) for n in range(count)]
    return [(kind, offset, 0 if kind == 8 else size) for kind, offset, size in rows]


def free(data: bytes, *, absolute: bool) -> set[int]:
    """The bytes that neither ld.so nor ld goes by, and (--verify) the hash table.

    Entry, flags, size of the header; physical addresses; alignment of sections, names of two;
    where sections are that are not loaded or have no content; padding; places of the stub's
    symbols.
    """
    (at,) = struct.unpack_from("<Q", data, 40)
    found = sections(data)
    names = len(found) - 1
    used = {*range(HEADER + 5 * SEGMENT), *range(at, at + SECTION * len(found))}
    for kind, offset, size in found:
        if kind != 0x6FFFFFF6:  # SHT_GNU_HASH
            used |= set(range(offset, offset + size))
        if kind == 11 and not absolute:  # SHT_DYNSYM
            for symbol in range(offset + SYMBOL, offset + size, SYMBOL):
                used -= set(range(symbol + 8, symbol + 16))
    used -= {*range(24, 32), *range(48, 54)}
    for n in range(5):
        used -= set(range(HEADER + n * SEGMENT + 24, HEADER + n * SEGMENT + 32))
    for n, (kind, _, _) in enumerate(found):
        start = at + n * SECTION
        used -= set(range(start + 48, start + 56))  # sh_addralign
        if n in (0, names) or kind in (8, 0x6FFFFFF6):
            used -= set(range(start + 16, start + 40))  # sh_addr, sh_offset, sh_size
        if n == 0 or kind == 0x6FFFFFF6:
            used -= set(range(start, start + 4))  # sh_name
        if kind == 6 and not absolute:
            end = found[n][1] + found[n][2]
            used -= set(range(end - 16, end))  # after DT_NULL
    text = found[names][1]
    used -= set(range(text, text + found[names][2]))
    return set(range(len(data))) - used


def changes(data: bytes, *, every: bool) -> Iterator[tuple[int, bytes]]:
    """One bit at a time; without `every` one bit of each byte, and none of the long padding."""
    for place in range(len(data)):
        if not every and not any(data[place - 32 : place + 32]):
            continue
        for bit in range(8) if every else (place % 8,):
            yield place, data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("absolute", [True, False])
def test_no_changed_bit_passes(absolute: bool, every: bool, tmp_path: Path) -> None:
    """Sizes of segments, version definitions, notes and more were not looked at: ld.so then bound
    an app's own memcpy to the kernel's; other damage ended in an exception of pyelftools, in all
    of the memory, or never."""
    own = library(absolute=absolute)
    good, file = own.content(), tmp_path / "libkernel.so"
    allowed, passed = free(good, absolute=absolute), set()
    for place, data in changes(good, every=every):
        file.write_bytes(data)
        try:
            own.compare(file)
            passed.add(place)
        except KbridgeError:
            pass
    assert sorted(passed - allowed) == []
    assert passed  # or the test would prove nothing


def test_what_is_cut_off(tmp_path: Path) -> None:
    own = library(absolute=True)
    good, file = own.content(), tmp_path / "libkernel.so"
    for length in itertools.chain(range(0, 900, 7), range(900, len(good), 99)):
        file.write_bytes(good[:length])
        with pytest.raises(KbridgeError, match="does not read back"):
            own.compare(file)


def test_each_file_is_only_what_it_is(tmp_path: Path) -> None:
    both = [library(absolute=absolute) for absolute in (True, False)]
    for own, other in (both, reversed(both)):
        (tmp_path / "libkernel.so").write_bytes(other.content())
        with pytest.raises(KbridgeError, match="does not read back"):
            own.compare(tmp_path / "libkernel.so")


def test_a_damaged_hash_table_is_for_the_dynamic_linker_to_find(tmp_path: Path) -> None:
    own = library(absolute=True)
    good, file = own.content(), tmp_path / "libkernel.so"
    ((start, size),) = [(at, size) for kind, at, size in sections(good) if kind == 0x6FFFFFF6]
    found = 0
    for place in range(start, start + size, 7):
        file.write_bytes(good[:place] + bytes([good[place] ^ 0x40]) + good[place + 1 :])
        own.compare(file)  # a symbol may not be found, but never a wrong one
        try:
            own.cross_check(file)
        except KbridgeError:
            found += 1
    assert found
