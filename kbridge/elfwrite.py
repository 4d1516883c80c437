# SPDX-License-Identifier: GPL-2.0-only
"""Writes ELF shared objects that hold a dynamic symbol table and nothing else.

For x86-64, without any code.  Not for changing existing files, and not for what the symbols
mean (libkernel.py).  Sources: ELF gABI; 'Symbol Versioning' in the LSB; for .gnu.hash glibc's
elf/dl-lookup.c (do_lookup_x) and binutils' bfd/elflink.c.
"""

from __future__ import annotations

import itertools
import operator
import struct
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from kbridge import arrays

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Hashes = npt.NDArray[np.uint32]
    Order = npt.NDArray[np.intp]

_PAGE = 4096
_HEADER_SIZE, _SEGMENT_SIZE, _SECTION_SIZE, _SYMBOL_SIZE = 64, 56, 64, 24
_SEGMENTS = 5
_DYNAMIC_SIZE = 10 * 16  # the entries of `_dynamic`, at most
_KERNEL_SECTION = 7  # the number of .kernel among the sections of `shared_object`

_ET_DYN, _EM_X86_64 = 3, 62
_PT_LOAD, _PT_DYNAMIC, _PT_NOTE, _PT_GNU_STACK = 1, 2, 4, 0x6474E551
_PF_W, _PF_R = 2, 4
_SHT_STRTAB, _SHT_DYNAMIC, _SHT_NOTE, _SHT_NOBITS, _SHT_DYNSYM = 3, 6, 7, 8, 11
_SHT_GNU_HASH, _SHT_GNU_VERDEF, _SHT_GNU_VERSYM = 0x6FFFFFF6, 0x6FFFFFFD, 0x6FFFFFFF
_SHF_WRITE, _SHF_ALLOC = 1, 2
_SHN_ABS = 0xFFF1
_STB_GLOBAL, _STT_OBJECT, _STT_FUNC = 1, 1, 2
_STV_DEFAULT, _STV_PROTECTED = 0, 3
_DT_STRTAB, _DT_SYMTAB, _DT_STRSZ, _DT_SYMENT, _DT_SONAME = 5, 6, 10, 11, 14
_DT_GNU_HASH, _DT_VERSYM = 0x6FFFFEF5, 0x6FFFFFF0
_DT_VERDEF, _DT_VERDEFNUM = 0x6FFFFFFC, 0x6FFFFFFD
_VER_FLG_BASE, _VERSYM_HIDDEN = 1, 0x8000

# glibc binds an unversioned reference even to a hidden version if its index is below 3: it takes
# that for the oldest interface of the library (check_match in elf/dl-lookup.c).  With index 2
# a program's own memcpy would become the kernel's.
VERSION_INDEX = 3


@dataclass(frozen=True)
class Exports:
    """Symbols to write, in three parallel columns; `values` count only where they are absolute."""

    names: Sequence[str]
    values: Sequence[int]
    functions: Sequence[bool]  # else objects

    @cached_property
    def strings(self) -> bytes:
        """A string table of just the names, in their order."""
        return "\0".join(["", *self.names, ""]).encode("ascii")

    @cached_property
    def places(self) -> Sequence[int]:
        """Where each name starts in `strings`."""
        sizes = map((1).__add__, map(len, self.names))
        return list(itertools.accumulate(sizes, initial=1))[:-1]


@dataclass
class _Section:
    """A section; `offset` is also its address (the file is linked at 0)."""

    name: str
    type: int
    content: bytes
    flags: int = _SHF_ALLOC
    link: str = ""
    info: int = 0
    align: int = 8
    entry: int = 0
    memory_size: int = 0  # of a section without content (NOBITS)
    offset: int = field(default=0, init=False)

    @property
    def end(self) -> int:
        return self.offset + len(self.content)


class _Strings:
    """A string table that grows; every string is stored once for every call of `add`."""

    def __init__(self, content: bytes = b"\0") -> None:
        self.content = bytearray(content)

    def add(self, text: str) -> int:
        offset = len(self.content)
        self.content += text.encode("ascii") + b"\0"
        return offset


def note(name: str, type: int, content: bytes) -> bytes:
    """One ELF note, padded to 4 bytes."""
    words = [name.encode("ascii") + b"\0", content]
    padded = [word + bytes(-len(word) % 4) for word in words]
    return struct.pack("<III", len(words[0]), len(content), type) + b"".join(padded)


def _sysv_hash(name: str) -> int:
    """The hash in version definitions; source: ELF gABI, 'Hash Table'."""
    value = 0
    for byte in name.encode("ascii"):
        value = (value << 4) + byte
        high = value & 0xF0000000
        value = (value ^ (high >> 24)) & ~high & 0xFFFFFFFF
    return value


def _gnu_hashes(exports: Exports) -> Hashes:
    """h = 5381, then h * 33 + byte for each byte, modulo 2**32, for all names at once.

    The names are handled column by column, the longest first, so that every step is one array
    operation on those that are long enough.
    """
    arrays.load()
    import numpy as np

    places = np.array(exports.places, np.intp)
    text = np.frombuffer(exports.strings, np.uint8)
    lengths = np.diff(places, append=len(text)) - 1
    order = np.argsort(-lengths, kind="stable")
    at = places[order]  # of each name's next byte
    hashes = np.full(len(at), 5381, np.uint32)
    longer = np.searchsorted(-lengths[order], -np.arange(lengths.max(initial=0)), "left")
    for count in longer.tolist():
        hashes[:count] *= np.uint32(33)
        hashes[:count] += text[at[:count]]
        at[:count] += 1
    unsorted = np.empty_like(hashes)
    unsorted[order] = hashes
    return unsorted


def _gnu_hash_section(hashes: Hashes) -> tuple[bytes, Order]:
    """The section .gnu.hash and the order in which the symbols must stand in .dynsym.

    Two symbols a bucket and 8 to 16 filter bits a symbol, about what GNU ld chooses.
    """
    import numpy as np

    count = len(hashes)
    buckets_count = max(1, count // 2) | 1
    log_words = max(0, (count // 8).bit_length())
    words, shift = 1 << log_words, 6 + log_words

    bucket = hashes % np.uint32(buckets_count)
    order = np.argsort(bucket, kind="stable")
    bucket = bucket[order]
    changes = bucket[1:] != bucket[:-1]
    is_first, is_last = np.ones(count, bool), np.ones(count, bool)
    is_first[1:], is_last[:-1] = changes, changes

    buckets = np.zeros(buckets_count, "<u4")
    buckets[bucket[is_first]] = np.flatnonzero(is_first) + 1  # symbol 0 is the null symbol
    chains = (hashes[order] & np.uint32(0xFFFFFFFE)) | is_last
    one, low_bits = np.uint64(1), np.uint64(63)
    wide = hashes.astype(np.uint64)
    bits = (one << (wide & low_bits)) | (one << ((wide >> np.uint64(shift)) & low_bits))
    bloom = np.zeros(words, "<u8")
    np.bitwise_or.at(bloom, (hashes >> np.uint32(6)) & np.uint32(words - 1), bits)

    header = struct.pack("<IIII", buckets_count, 1, words, shift)
    tables = (bloom, buckets, chains.astype("<u4"))
    return header + b"".join(one.tobytes() for one in tables), order


def _first_words(exports: Exports, kernel: _Section | None) -> array[int]:
    """The first word of each symbol: its name's place, info, visibility and section."""
    visibility, section = (_STV_PROTECTED, _KERNEL_SECTION) if kernel else (_STV_DEFAULT, _SHN_ABS)
    kinds = {
        is_function: (_STB_GLOBAL << 4 | kind) << 32 | visibility << 40 | section << 48
        for is_function, kind in ((True, _STT_FUNC), (False, _STT_OBJECT))
    }
    own = map(kinds.__getitem__, exports.functions)
    return array("Q", list(map(operator.or_, exports.places, own)))


def _permuted(words: array[int], order: Order) -> array[int]:
    import numpy as np

    return array("Q", np.frombuffer(words, np.uint64)[order].tobytes())


def _symbols(exports: Exports, order: Order | None, kernel: _Section | None) -> bytes:
    """The section .dynsym: absolute values, or symbol i at byte i of the section `kernel`.

    Every symbol is three words: what `_first_words` says, value, size.
    """
    first = _first_words(exports, kernel)
    if kernel:
        values = array("Q", range(kernel.offset, kernel.offset + len(first)))
    else:
        values = array("Q", exports.values)
    if order is not None:
        first, values = _permuted(first, order), _permuted(values, order)
    words = array("Q", bytes(_SYMBOL_SIZE * (1 + len(first))))
    words[3::3], words[4::3] = first, values
    if sys.byteorder == "big":
        words.byteswap()
    return words.tobytes()


def _version_definitions(soname_at: int, soname: str, version: str, strings: _Strings) -> bytes:
    """The file's own definition (index 1) and `version`; 20 + 8 bytes each."""
    own = struct.pack("<HHHHIII", 1, _VER_FLG_BASE, 1, 1, _sysv_hash(soname), 20, 28)
    own += struct.pack("<II", soname_at, 0)
    named = struct.pack("<HHHHIII", 1, 0, VERSION_INDEX, 1, _sysv_hash(version), 20, 0)
    return own + named + struct.pack("<II", strings.add(version), 0)


def _place(sections: Sequence[_Section], start: int) -> int:
    """Give the sections their offsets, one after the other; returns the end."""
    end = start
    for one in sections:
        one.offset = -(-end // one.align) * one.align
        end = one.end
    return end


def _dynamic(by_name: dict[str, _Section], soname_at: int) -> bytes:
    hash_ = by_name.get(".gnu.hash")
    entries = (
        (_DT_SONAME, soname_at),
        *([(_DT_GNU_HASH, hash_.offset)] if hash_ else []),
        (_DT_STRTAB, by_name[".dynstr"].offset),
        (_DT_SYMTAB, by_name[".dynsym"].offset),
        (_DT_STRSZ, len(by_name[".dynstr"].content)),
        (_DT_SYMENT, _SYMBOL_SIZE),
        (_DT_VERSYM, by_name[".gnu.version"].offset),
        (_DT_VERDEF, by_name[".gnu.version_d"].offset),
        (_DT_VERDEFNUM, 2),
        (0, 0),
    )
    return b"".join(struct.pack("<QQ", *entry) for entry in entries).ljust(_DYNAMIC_SIZE, b"\0")


def _segment(type: int, flags: int, offset: int, size: int, *, align: int, more: int = 0) -> bytes:
    """A program header; `more` is what the segment has in memory beyond its content, in bytes."""
    return struct.pack("<IIQQQQQQ", type, flags, offset, offset, offset, size, size + more, align)


def _program_headers(by_name: dict[str, _Section], read_only_end: int) -> bytes:
    note_, dynamic = by_name[".note.kbridge"], by_name[".dynamic"]
    kernel = by_name.get(".kernel")
    size, more = len(dynamic.content), kernel.memory_size if kernel else 0
    writable = _PF_R | _PF_W
    return b"".join(
        (
            _segment(_PT_LOAD, _PF_R, 0, read_only_end, align=_PAGE),
            # Writable: ld.so of glibc before 2.35 adds the load address in place.
            _segment(_PT_LOAD, writable, dynamic.offset, size, align=_PAGE, more=more),
            _segment(_PT_DYNAMIC, writable, dynamic.offset, size, align=8),
            _segment(_PT_NOTE, _PF_R, note_.offset, len(note_.content), align=4),
            _segment(_PT_GNU_STACK, writable, 0, 0, align=16),
        )
    )


def _section_headers(sections: Sequence[_Section], names: dict[str, int]) -> bytes:
    index = {one.name: number for number, one in enumerate(sections, 1)}
    headers = [bytes(_SECTION_SIZE)]
    for one in sections:
        address = one.offset if one.flags & _SHF_ALLOC else 0
        size = one.memory_size or len(one.content)
        fields = (names[one.name], one.type, one.flags, address, one.offset, size)
        rest = (index.get(one.link, 0), one.info, one.align, one.entry)
        headers.append(struct.pack("<IIQQQQIIQQ", *fields, *rest))
    return b"".join(headers)


def _assemble(sections: Sequence[_Section], read_only_end: int) -> bytes:
    """Headers, contents, section names, section headers."""
    strings = _Strings()
    names = {one.name: strings.add(one.name) for one in sections}
    names[".shstrtab"] = strings.add(".shstrtab")
    table = _Section(".shstrtab", _SHT_STRTAB, bytes(strings.content), flags=0, align=1)
    headers_at = -(-_place([table], sections[-1].end) // 8) * 8
    everything = [*sections, table]
    identity = b"\x7fELF\2\1\1" + bytes(9)
    header = identity + struct.pack(
        "<HHIQQQIHHHHHH",
        *(_ET_DYN, _EM_X86_64, 1, 0, _HEADER_SIZE, headers_at, 0),
        *(_HEADER_SIZE, _SEGMENT_SIZE, _SEGMENTS),
        *(_SECTION_SIZE, len(everything) + 1, len(everything)),
    )
    segments = _program_headers({one.name: one for one in sections}, read_only_end)
    pieces, end = [header, segments], len(header) + len(segments)
    for one in everything:
        pieces += [bytes(one.offset - end), one.content]
        end = one.end
    pieces += [bytes(headers_at - end), _section_headers(everything, names)]
    return b"".join(pieces)


def shared_object(
    exports: Exports, *, soname: str, version: str, notes: bytes, absolute: bool
) -> bytes:
    """An ELF file that exports the symbols, all with the hidden version `version`.

    With `absolute` they have their values, in SHN_ABS: for ld.so.  Without, they are protected
    symbols in the section .kernel, which has no content, so that a link cannot copy their
    values nor bind them any other way than through ld.so: for ld, which needs no hash table.
    The same input gives the same bytes.
    """
    strings, count = _Strings(exports.strings), len(exports.names)
    tables, order = [], None
    if absolute:
        hashes, order = _gnu_hash_section(_gnu_hashes(exports))
        tables = [_Section(".gnu.hash", _SHT_GNU_HASH, hashes, link=".dynsym")]
    soname_at = strings.add(soname)
    definitions = _version_definitions(soname_at, soname, version, strings)
    versions = struct.pack("<H", _VERSYM_HIDDEN | VERSION_INDEX) * count

    # .dynsym and .dynamic hold addresses: their contents follow when all have their places.
    dynsym = _Section(".dynsym", _SHT_DYNSYM, bytes(_SYMBOL_SIZE * (1 + count)))
    dynsym.link, dynsym.info, dynsym.entry = ".dynstr", 1, _SYMBOL_SIZE
    read_only = [
        _Section(".note.kbridge", _SHT_NOTE, notes, align=4),
        *tables,
        dynsym,
        _Section(".dynstr", _SHT_STRTAB, bytes(strings.content), align=1),
        _Section(".gnu.version", _SHT_GNU_VERSYM, bytes(2) + versions, link=".dynsym", entry=2),
        _Section(".gnu.version_d", _SHT_GNU_VERDEF, definitions, link=".dynstr", info=2),
    ]
    dynamic = _Section(
        ".dynamic",
        _SHT_DYNAMIC,
        bytes(_DYNAMIC_SIZE),
        flags=_SHF_ALLOC | _SHF_WRITE,
        link=".dynstr",
        align=_PAGE,
        entry=16,
    )
    kernel = None
    if not absolute:
        kernel = _Section(".kernel", _SHT_NOBITS, b"", memory_size=max(1, count))
    sections = [*read_only, dynamic, *([kernel] if kernel else [])]
    _place(sections, _HEADER_SIZE + _SEGMENTS * _SEGMENT_SIZE)
    dynsym.content = _symbols(exports, order, kernel)
    dynamic.content = _dynamic({one.name: one for one in sections}, soname_at)
    return _assemble(sections, read_only[-1].end)
