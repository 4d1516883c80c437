# SPDX-License-Identifier: GPL-2.0-only
"""Reads a written libkernel.so back and compares every symbol with what it should say.

It takes the file's bytes, through pyelftools, and is fast enough to be done every time.

Not for how the file is made (elfwrite.py), nor for what other readers make of it (crosscheck.py).
"""

from __future__ import annotations

import itertools
import struct
import sys
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from kbridge.elfwrite import VERSION_INDEX, Exports
from kbridge.errors import KbridgeError

_HIDDEN, _BASE = 0x8000, 1
_SYMBOL_WORDS = 3  # of 64 bits
_TAGS = {  # what ld.so goes by, and the section it has to be
    "DT_SYMTAB": ".dynsym",
    "DT_STRTAB": ".dynstr",
    "DT_VERSYM": ".gnu.version",
    "DT_VERDEF": ".gnu.version_d",
}
_SIZES = {"DT_SYMENT": 8 * _SYMBOL_WORDS, "DT_VERDEFNUM": 2}
_HASH = {"DT_GNU_HASH": ".gnu.hash"}
_SECTION_SIZE, _SEGMENT_SIZE = 64, 56
_READ, _READ_WRITE = 2, 3  # of sections: allocated; allocated and writable
# The sections in their order: type, flags, the section that sh_link is, sh_info, sh_entsize
_SECTIONS: dict[str, tuple[str, int, str, int, int]] = {
    "": ("SHT_NULL", 0, "", 0, 0),
    ".note.kbridge": ("SHT_NOTE", _READ, "", 0, 0),
    ".gnu.hash": ("SHT_GNU_HASH", _READ, ".dynsym", 0, 0),
    ".dynsym": ("SHT_DYNSYM", _READ, ".dynstr", 1, 8 * _SYMBOL_WORDS),
    ".dynstr": ("SHT_STRTAB", _READ, "", 0, 0),
    ".gnu.version": ("SHT_GNU_versym", _READ, ".dynsym", 0, 2),
    ".gnu.version_d": ("SHT_GNU_verdef", _READ, ".dynstr", 2, 0),
    ".dynamic": ("SHT_DYNAMIC", _READ_WRITE, ".dynstr", 0, 16),
    ".kernel": ("SHT_NOBITS", _READ, "", 0, 0),
    ".shstrtab": ("SHT_STRTAB", 0, "", 0, 0),
}
_DEFINITION = ("vd_version", "vd_flags", "vd_ndx", "vd_hash", "vd_aux", "vd_next")  # of a version
_KERNEL = ".kernel"  # of the stub alone, which in turn has no hash table
_KERNEL_NUMBER = 7
_SEGMENTS = [  # type, flags, alignment
    ("PT_LOAD", 4, 4096),
    ("PT_LOAD", 6, 4096),
    ("PT_DYNAMIC", 6, 8),
    ("PT_NOTE", 4, 4),
    ("PT_GNU_STACK", 6, 16),
]
_START = b"\x7fELF\2\1\1" + bytes(9) + struct.pack("<HHI", 3, 62, 1)  # ET_DYN, EM_X86_64
_FUNCTION, _OBJECT = 0x12, 0x11
_ABSOLUTE = 0xFFF1 << 16
_PROTECTED = 3 << 8

_Rows = dict[str, tuple[int, int]]


@dataclass(frozen=True)
class _Read:
    """The symbols of a file, in its order; `kinds`: info, visibility and section, as one number.

    `strings`: its string table, and `offsets` where each symbol's name is in it.
    """

    strings: bytes
    offsets: array[int]
    values: array[int]
    kinds: array[int]


@dataclass(frozen=True)
class Frame:
    """What a file has to say beside its symbols."""

    version: str
    soname: str
    notes: bytes


def wrong(what: str) -> KbridgeError:
    """The error for a file that is not what was to be written."""
    return KbridgeError(
        f"libkernel.so does not read back as it was written: {what}",
        hint="this is a defect of kbridge: please report it",
    )


def _sections(elf: Any, absolute: bool) -> dict[str, Any]:
    """The sections, which have to be just those that are written, by name.

    Without the object of .gnu.hash: pyelftools would make one of each of its entries too.
    """
    from elftools.common.utils import struct_parse

    names = [name for name in _SECTIONS if name != (_KERNEL if absolute else ".gnu.hash")]
    if (elf["e_shnum"], elf["e_shentsize"]) != (len(names), _SECTION_SIZE):
        raise wrong(f"{elf['e_shnum']} sections, not {len(names)}")
    found: dict[str, Any] = {}
    for number, name in enumerate(names):
        at = elf["e_shoff"] + number * _SECTION_SIZE
        header = struct_parse(elf.structs.Elf_Shdr, elf.stream, at)
        type_, flags, link, *rest = _SECTIONS[name]
        said = [header[f"sh_{key}"] for key in ("type", "flags", "link", "info", "entsize")]
        if said != [type_, flags, names.index(link), *rest]:
            raise wrong(f"the header of its section {number} is not that of {name}")
        if flags and header["sh_addr"] != header["sh_offset"]:
            raise wrong(f"{name} is not loaded where it is in the file")
        if name != ".gnu.hash":
            found[name] = elf.get_section(number)
            if found[name].name != name:
                raise wrong(f"its section {number} is not {name}")
        else:
            found[name] = header
    return found


def _check_segments(elf: Any, sections: Mapping[str, Any]) -> None:
    """The segments are just those that are written, and what is compared here is loaded.

    By their headers alone: for the dynamic one pyelftools would make an object of every section,
    and of each entry of .gnu.hash.
    """
    from elftools.common.utils import struct_parse

    if (elf["e_phnum"], elf["e_phentsize"]) != (len(_SEGMENTS), _SEGMENT_SIZE):
        raise wrong(f"{elf['e_phnum']} segments, not {len(_SEGMENTS)}")
    headers = range(elf["e_phoff"], elf["e_phoff"] + len(_SEGMENTS) * _SEGMENT_SIZE, _SEGMENT_SIZE)
    segments = [struct_parse(elf.structs.Elf_Phdr, elf.stream, at) for at in headers]
    if [(one["p_type"], one["p_flags"], one["p_align"]) for one in segments] != _SEGMENTS:
        raise wrong("its segments are others")
    places = [(one["p_offset"], one["p_filesz"]) for one in segments]
    if any(one["p_vaddr"] != one["p_offset"] for one in segments):
        raise wrong("a segment is not loaded where it is in the file")
    dynamic, last = sections[".dynamic"], sections[".gnu.version_d"]
    of_dynamic = (dynamic["sh_offset"], dynamic["sh_size"])
    note = (sections[".note.kbridge"]["sh_offset"], sections[".note.kbridge"]["sh_size"])
    if places != [(0, last["sh_offset"] + last["sh_size"]), of_dynamic, of_dynamic, note, (0, 0)]:
        raise wrong("its segments do not have its sections")
    kernel = sections.get(_KERNEL)
    more = kernel["sh_size"] if kernel else 0
    sizes = [one["p_memsz"] for one in segments]
    if sizes != [size + (more if at == 1 else 0) for at, (_, size) in enumerate(places)]:
        raise wrong("a segment has another size in memory")


def _check_dynamic(sections: Mapping[str, Any], soname: str) -> None:
    """What ld.so goes by must be the sections that are compared here, and nothing else.

    But for the hash table: where that is wrong a symbol is not found, but never a wrong one.
    """
    tags = list(sections[".dynamic"].iter_tags())
    found = {one.entry.d_tag: one["d_val"] for one in tags}
    places = {**_TAGS, **(_HASH if ".gnu.hash" in sections else {})}
    expected = {tag: sections[name]["sh_addr"] for tag, name in places.items()}
    expected |= {**_SIZES, "DT_STRSZ": sections[".dynstr"]["sh_size"], "DT_NULL": 0}
    sonames = [one.soname for one in tags if one.entry.d_tag == "DT_SONAME"]
    if sonames != [soname]:
        raise wrong(f"its soname is not {soname}")
    del found["DT_SONAME"]
    if found != expected or len(tags) != len(expected) + 1:
        raise wrong(f"its dynamic section: {difference(found, expected)}")


def _check_version(sections: Mapping[str, Any], version: str, soname: str, count: int) -> None:
    """Every symbol has the hidden version, which the file defines."""
    from elftools.elf.hash import ELFHashTable

    defined = [
        (*map(one.entry.__getitem__, _DEFINITION), [(aux.name, aux["vda_next"]) for aux in names])
        for one, names in sections[".gnu.version_d"].iter_versions()
    ]
    wanted = ((_BASE, 1, soname, 28), (0, VERSION_INDEX, version, 0))
    hash_of = ELFHashTable.elf_hash
    if defined != [
        (1, f, n, hash_of(name), 20, next_, [(name, 0)]) for f, n, name, next_ in wanted
    ]:
        raise wrong(f"it does not define the version {version}")
    hidden = struct.pack("<H", _HIDDEN | VERSION_INDEX)
    if sections[".gnu.version"].data() != bytes(2) + hidden * count:
        raise wrong(f"a symbol has not the version {version}")


def _check_places(values: Sequence[int], kernel: Any) -> None:
    """The places of a stub's symbols have no meaning, but each has one of its own."""
    first, size = kernel["sh_addr"], kernel["sh_size"]
    if len(values) > size or list(values) != list(range(first, first + len(values))):
        raise wrong("a symbol is not in .kernel, or not alone in its place")


def _read(stream: IO[bytes], frame: Frame, absolute: bool) -> _Read:
    """Every dynamic symbol, in the file's order."""
    from elftools.elf.elffile import ELFFile

    if stream.read(len(_START)) != _START:
        raise wrong("it is no shared object for x86-64")
    elf = ELFFile(stream)
    sections = _sections(elf, absolute)
    _check_segments(elf, sections)
    _check_dynamic(sections, frame.soname)
    if sections[".note.kbridge"].data() != frame.notes:
        raise wrong("its notes are others")
    words = array("Q", sections[".dynsym"].data())
    strings = sections[".dynstr"].data()
    count = len(words) // _SYMBOL_WORDS - 1
    _check_version(sections, frame.version, frame.soname, count)
    if sys.byteorder == "big":
        words.byteswap()
    if any(words[:_SYMBOL_WORDS]) or words[2::3].tobytes().strip(b"\0"):
        raise wrong("a symbol has a size, or the first one a name")
    first = array("I", words[3::3].tobytes())  # halves: the name, and the rest
    read = _Read(strings, first[0::2], words[4::3], first[1::2])
    if not absolute:
        _check_places(read.values, sections[_KERNEL])
    return read


def _kinds(exports: Exports, absolute: bool) -> list[int]:
    place = _ABSOLUTE if absolute else _PROTECTED | _KERNEL_NUMBER << 16
    kind = {True: place | _FUNCTION, False: place | _OBJECT}
    return list(map(kind.__getitem__, exports.functions))


def _order(read: _Read, names: Sequence[str]) -> Sequence[int]:
    """For each symbol of the file which of `names` it has; nothing where one has another name."""
    strings = read.strings.decode("ascii").split("\0")
    if strings[1 : len(names) + 1] != names:  # in our order: as we write them
        return []
    sizes = map((1).__add__, map(len, strings))
    starts = array("I", itertools.accumulate(sizes, initial=0))[1 : len(names) + 1]
    if starts == read.offsets:
        return range(len(names))
    import numpy as np  # which whoever has written them in another order has loaded, too

    offsets, own = np.frombuffer(read.offsets, np.uint32), np.frombuffer(starts, np.uint32)
    order = np.searchsorted(own[:-1], offsets)
    return array("q", order.tobytes()) if (own[order] == offsets).all() else []


def _by_name(names: Sequence[str], values: Sequence[int], kinds: Sequence[int]) -> _Rows:
    return dict(zip(names, zip(values, kinds, strict=True), strict=True))


def difference(found: Mapping[str, object], expected: Mapping[str, object]) -> str:
    """The first few names of which two readers say different things, and what they say."""
    names = sorted(
        name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)
    )
    shown = [f"{name} is {found.get(name)}, not {expected.get(name)}" for name in names[:3]]
    return "; ".join(shown) or "a name is there twice"


def _named(read: _Read) -> list[str]:
    ends = [read.strings.index(b"\0", offset) for offset in read.offsets]
    pairs = zip(read.offsets, ends, strict=True)
    return [read.strings[offset:end].decode("ascii") for offset, end in pairs]


def compare(file: Path, exports: Exports, frame: Frame, *, absolute: bool) -> None:
    """Raise KbridgeError unless the file's symbols are just these, with these values and types,
    all with the hidden version, and everything by which ld.so and ld find them is right.  The
    places of a stub's symbols have no meaning.
    """
    with file.open("rb") as stream:
        try:
            _compare(stream, exports, frame, absolute=absolute)
        except KbridgeError:
            raise
        except Exception as problem:  # pyelftools raises whatever damage leads it to
            raise wrong(str(problem) or type(problem).__name__) from problem


def _permuted(column: Sequence[int], order: Sequence[int]) -> array[int]:
    """What `column` has for each of `order`."""
    if isinstance(order, range):
        return array("Q", column)
    import numpy as np

    return array("Q", np.array(column, np.uint64)[np.array(order, np.intp)].tobytes())


def _compare(stream: IO[bytes], exports: Exports, frame: Frame, *, absolute: bool) -> None:
    """In columns, since some 100,000 rows would take thrice as long."""
    found, kinds = _read(stream, frame, absolute), _kinds(exports, absolute)
    values = exports.values if absolute else [0] * len(kinds)
    found_values = found.values if absolute else array("Q", bytes(8 * len(found.values)))
    order = _order(found, exports.names)
    if (
        len(order) != len(kinds)
        or len(set(order)) != len(kinds)
        or _permuted(values, order) != found_values
        or _permuted(kinds, order) != array("Q", found.kinds)
    ):
        expected = _by_name(exports.names, values, kinds)
        raise wrong(difference(_by_name(_named(found), found_values, found.kinds), expected))
