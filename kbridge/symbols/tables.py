# SPDX-License-Identifier: GPL-2.0-only
"""Finds and decodes the kallsyms tables in an unpacked kernel image.

A stock image has no ELF symbol table, but it carries the tables that /proc/kallsyms is made
of.  Nothing points to them, so they are found by what they must look like, and every address
is checked.  Not for unpacking the image, nor for its headers (image.py).

Source of the format: scripts/kallsyms.c, write_src(), and kernel/kallsyms.c.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from kbridge import arrays
from kbridge.errors import KbridgeError
from kbridge.symbols.table import Columns

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Addresses = npt.NDArray[np.uint64]

KERNEL_BASE = 0xFFFFFFFF80000000  # __START_KERNEL_map, arch/x86/include/asm/page_64_types.h

# The token table holds 256 strings.  The digits occur in symbol names, so they stand for
# themselves, one after the other, from token 0x30 on: no other data looks like that.
_DIGITS = b"".join(b"%d\0" % digit for digit in range(10))
_FIRST_DIGIT = ord("0")
_LONGEST_NAME = 512  # bytes, KSYM_NAME_LEN
_INDEX_SIZE = 256 * 2

_MARKER_EVERY = 256  # symbols
_FEWEST, _MOST = 256, 1 << 22  # symbols of a kernel
_NAMES_REACH = 32 << 20  # bytes before the token table in which the names lie
_TOP = 1 << 64
_TEXT = "T_text"
_TYPES = frozenset(b"aAbBcCdDgGiIrRsStTuUvVwW?".decode())


class Segment(NamedTuple):
    """A PT_LOAD segment: where it is in memory, and where in the file; sizes in bytes."""

    address: int
    memory_size: int
    offset: int
    file_size: int


@dataclass(frozen=True)
class _Tokens:
    start: int  # file offset of kallsyms_token_table
    index: int  # file offset of kallsyms_token_index
    strings: Sequence[str]


@dataclass(frozen=True)
class _Names:
    count_at: int  # file offset of kallsyms_num_syms
    names: Sequence[str]  # the type letter, then the name


def _aligned(offset: int) -> int:
    return (offset + 7) & ~7


def _start_of_second_token(image: bytes, digits: int) -> int | None:
    """Walk back from token '0' (number 0x30) to the start of token 1."""
    start = digits
    for _ in range(_FIRST_DIGIT - 1):
        previous = image.rfind(b"\0", max(0, start - 1 - _LONGEST_NAME), start - 1)
        if previous < 0:
            return None
        start = previous + 1
    return start


def _tokens_at(image: bytes, start: int) -> _Tokens | None:
    """The token table at `start`, if kallsyms_token_index follows and agrees with it."""
    starts, strings, at = [], [], start
    for _ in range(256):
        end = image.find(b"\0", at, at + _LONGEST_NAME + 1)
        if end < 0 or at - start > 0xFFFF:
            return None
        starts.append(at - start)
        strings.append(image[at:end])
        at = end + 1
    index = _aligned(at)
    if image[index : index + _INDEX_SIZE] != struct.pack("<256H", *starts):
        return None
    # Source: insert_real_symbols_in_table() and optimize_result() in scripts/kallsyms.c: every
    # character that occurs has its own code, and all other codes are strings of such.
    alone = [code for code, string in enumerate(strings) if len(string) == 1]
    if any(strings[code][0] != code or code >= 0x80 for code in alone):
        return None
    if set(b"".join(strings)) != set(alone):
        return None
    return _Tokens(start, index, [string.decode("ascii") for string in strings])


def _find_tokens(image: bytes) -> _Tokens | None:
    digits = image.find(_DIGITS)
    while digits >= 0:
        second = _start_of_second_token(image, digits)
        if second is not None:
            # What precedes the table may end in a byte other than NUL, so the start of token 0
            # is not where the last NUL is: try every aligned place after that.
            before = image.rfind(b"\0", max(0, second - 1 - _LONGEST_NAME), second - 1)
            for start in range((second - 1) & ~7, before, -8):
                tokens = _tokens_at(image, start)
                if tokens is not None:
                    return tokens
        digits = image.find(_DIGITS, digits + 1)
    return None


def _possible_counts(image: bytes, tokens: _Tokens) -> Iterator[tuple[int, int]]:
    """(offset, value) of whatever may be kallsyms_num_syms, the nearest to the tokens first.

    It is an aligned 32-bit word, padded with zeros to the next multiple of 8 bytes.
    """
    arrays.load()
    import numpy as np

    end = tokens.start & ~7
    low = max(0, end - _NAMES_REACH) & ~7
    words = np.frombuffer(image, "<u8", (end - low) // 8, low)
    for place in np.flatnonzero((words >= _FEWEST) & (words < _MOST))[::-1].tolist():
        yield low + 8 * place, int(words[place])


def _decode_names(image: bytes, at: int, count: int, tokens: _Tokens) -> tuple[list[str], bytes]:
    """`count` names from offset `at`, with the kallsyms_markers that belong to them.

    Stops early, with fewer names, where what is there cannot be names.  A length is one byte,
    or two where the first has its top bit set: since Linux commit 73bbb94466fd3
    ("kallsyms: support "big" kernel symbols", v6.1).
    """
    strings, limit, start = tokens.strings, tokens.start, at
    names, markers = [], []
    for number in range(count):
        if number % _MARKER_EVERY == 0:
            markers.append(at - start)
        length = image[at]
        at += 1
        if length & 0x80:
            length = length & 0x7F | image[at] << 7
            at += 1
        end = at + length
        if length == 0 or end > limit:
            break
        name = "".join([strings[code] for code in image[at:end]])
        if name[:1] not in _TYPES or len(name) < 2:
            break
        names.append(name)
        at = end
    place = _aligned(at)
    expected = struct.pack(f"<{len(markers)}I", *markers)
    return names, expected if image[place : place + len(expected)] == expected else b""


def _find_names(image: bytes, tokens: _Tokens) -> _Names | None:
    for count_at, count in _possible_counts(image, tokens):
        if tokens.start - count_at < 2 * count:
            continue
        names, markers = _decode_names(image, count_at + 8, count, tokens)
        if len(names) == count and markers:
            return _Names(count_at, names)
    return None


def _plausible(addresses: Addresses, names: Sequence[str], segments: Sequence[Segment]) -> bool:
    """In order, and each inside the kernel or (per-CPU offsets) inside the segment at 0.

    The kernel starts with _text: where that lies elsewhere, all others are shifted too.
    """
    # The top of the address space bounds what a damaged header may claim.
    kernel = [one for one in segments if KERNEL_BASE <= one.address < _TOP - one.memory_size]
    if not kernel or bool((addresses[1:] < addresses[:-1]).any()):
        return False
    low = min(one.address for one in kernel)
    high = max(one.address + one.memory_size for one in kernel)
    if _TEXT in names and addresses[names.index(_TEXT)] != low:
        return False
    per_cpu = max((one.memory_size for one in segments if one.address == 0), default=-1)
    inside = (addresses >= low) & (addresses <= high)
    if per_cpu >= 0:
        inside |= addresses <= per_cpu
    return bool(inside.all())


def _relative(image: bytes, offsets_at: int, base_at: int, count: int) -> Addresses | None:
    """Addresses from kallsyms_offsets and kallsyms_relative_base.

    Source: kallsyms_sym_address() in kernel/kallsyms.c.  With CONFIG_KALLSYMS_ABSOLUTE_PERCPU
    (gone in v6.15) an offset >= 0 is itself the address, of a per-CPU variable, and all else
    is negative; without it every offset is unsigned.
    """
    import numpy as np

    if offsets_at < 0 or base_at + 8 > len(image) or offsets_at + 4 * count > len(image):
        return None
    (base,) = struct.unpack_from("<Q", image, base_at)
    if base < KERNEL_BASE:
        return None
    offsets = np.frombuffer(image, "<i4", count, offsets_at).astype(np.int64)
    if (offsets < 0).any():
        relative = np.uint64(base - 1) - offsets.view(np.uint64)
        return np.where(offsets >= 0, offsets.view(np.uint64), relative)
    return offsets.view(np.uint64) + np.uint64(base)


def _place_relative(
    image: bytes, offsets_at: int, count: int, segments: Sequence[Segment]
) -> Addresses | None:
    """Addresses from kallsyms_offsets that count from the place where each of them is.

    Since Linux commit a081b5789255 ("kallsyms: Get rid of kallsyms relative base", v7.0).
    """
    import numpy as np

    if offsets_at + 4 * count > len(image):
        return None
    for one in segments:
        if one.offset <= offsets_at < one.offset + one.file_size:
            first = one.address + offsets_at - one.offset
            places = np.uint64(first % _TOP) + np.arange(count, dtype=np.uint64) * np.uint64(4)
            offsets = np.frombuffer(image, "<i4", count, offsets_at).astype(np.int64)
            return places + offsets.view(np.uint64)
    return None


def _find_addresses(
    image: bytes, segments: Sequence[Segment], tokens: _Tokens, names: _Names
) -> Addresses | None:
    """The addresses, from the first of the known layouts that gives plausible ones."""
    count = len(names.names)
    size = _aligned(4 * count)
    # Since Linux commit 404bad70fcf7 ("scripts/kallsyms: change the output order", v6.4) the
    # offsets follow the token index; before that they come before kallsyms_num_syms.
    after = _aligned(tokens.index + _INDEX_SIZE)
    before = names.count_at - 8 - size
    for addresses in (
        _relative(image, after, after + size, count),
        _relative(image, before, before + size, count),
        # The last, because it has no base that would have to look like one.
        _place_relative(image, after, count, segments),
    ):
        if addresses is not None and _plausible(addresses, names.names, segments):
            return addresses
    return None


def decode(image: bytes, segments: Sequence[Segment], origin: str) -> Columns:
    """The kernel's symbols, line for line as its /proc/kallsyms has them without KASLR.

    `origin` is for messages.  Raises KbridgeError where the tables are not there or not sound.
    """
    tokens = _find_tokens(image)
    names = _find_names(image, tokens) if tokens else None
    if tokens is None or names is None:
        raise KbridgeError(
            f"{origin}: no kallsyms tables in the kernel image",
            hint="the kernel must be built with CONFIG_KALLSYMS and CONFIG_KALLSYMS_ALL",
        )
    addresses = _find_addresses(image, segments, tokens, names)
    if addresses is None:
        raise KbridgeError(
            f"{origin}: the addresses in its kallsyms tables make no sense",
            hint="the image is damaged, or its kallsyms tables have a form that kbridge "
            "does not know; on the running kernel, /proc/kallsyms has the same symbols",
        )
    types = "".join([name[0] for name in names.names])
    return Columns(addresses.tolist(), types, [name[1:] for name in names.names])
