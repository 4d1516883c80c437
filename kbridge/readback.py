# SPDX-License-Identifier: GPL-2.0-only
"""Reads a written libkernel.so back and compares every symbol with what it should say.

compare() takes the file's bytes, through pyelftools, and is fast enough to be done every time.
cross_check() asks the programs that will read the file: readelf and, for the run-time file, ld.so.

Not for how the file is made (elfwrite.py), nor for programs (link.py).
"""

from __future__ import annotations

import contextlib
import itertools
import re
import struct
import sys
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kbridge import proc
from kbridge.elfwrite import VERSION_INDEX, Exports
from kbridge.errors import KbridgeError

_HIDDEN = 0x8000
_SYMBOL_WORDS = 3  # of 64 bits
_TAGS = {  # what ld.so goes by, and the section it has to be
    "DT_SYMTAB": ".dynsym",
    "DT_STRTAB": ".dynstr",
    "DT_VERSYM": ".gnu.version",
    "DT_VERDEF": ".gnu.version_d",
}
_TYPES = ("SHT_DYNSYM", "SHT_STRTAB", "SHT_DYNAMIC", "SHT_GNU_versym", "SHT_GNU_verdef")
_FUNCTION, _OBJECT = 0x12, 0x11
_ABSOLUTE = 0xFFF1 << 16
_PROTECTED = 3 << 8

_Rows = dict[str, tuple[int, int]]

_LD_SO = """
import ctypes, sys
library = ctypes.CDLL(sys.argv[1])
dlvsym = ctypes.CDLL(None).dlvsym
dlvsym.restype = ctypes.c_void_p
handle, version = ctypes.c_void_p(library._handle), sys.argv[2].encode()
for name in sys.stdin.read().split():
    print(name, dlvsym(handle, name.encode(), version) or 0)
"""


@dataclass(frozen=True)
class _Read:
    """The symbols of a file, in its order; `kinds`: info, visibility and section, as one number.

    `strings`: its string table, and `offsets` where each symbol's name is in it.
    """

    strings: bytes
    offsets: Sequence[int]
    values: Sequence[int]
    kinds: Sequence[int]


def _wrong(what: str) -> KbridgeError:
    return KbridgeError(
        f"libkernel.so does not read back as it was written: {what}",
        hint="this is a defect of kbridge: please report it",
    )


class _Sections(dict[str, Any]):
    """The sections of a file that are compared, by name."""

    def __missing__(self, name: str) -> Any:
        raise _wrong(f"no section {name}")

    @classmethod
    def of(cls, elf: Any) -> _Sections:
        """Without .gnu.hash, each entry of which pyelftools would make an object of."""
        from elftools.common.exceptions import ELFError

        found = cls()
        for number in range(elf.num_sections()):
            with contextlib.suppress(ELFError):
                section = elf.get_section(number, _TYPES)
                found[section.name] = section
        return found


def _check_dynamic(elf: Any, sections: _Sections, soname: str) -> None:
    """What ld.so goes by must be the sections that are compared here.

    But for the hash table: where that is wrong a symbol is not found, but never a wrong one.
    """
    tags = {one.entry.d_tag: one for one in sections[".dynamic"].iter_tags()}
    for tag, name in _TAGS.items():
        if tag not in tags or tags[tag]["d_ptr"] != sections[name]["sh_addr"]:
            raise _wrong(f"{tag} is not where {name} is")
    if "DT_SONAME" not in tags or tags["DT_SONAME"].soname != soname:
        raise _wrong(f"its soname is not {soname}")
    for one in elf.iter_segments():
        if one["p_type"] == "PT_LOAD" and one["p_vaddr"] != one["p_offset"]:
            raise _wrong("a segment is not loaded where its sections say")


def _check_version(sections: _Sections, version: str, count: int) -> None:
    """Every symbol has the hidden version, which the file defines."""
    defined = [
        (one["vd_ndx"], [aux.name for aux in names])
        for one, names in sections[".gnu.version_d"].iter_versions()
    ]
    if (VERSION_INDEX, [version]) not in defined:
        raise _wrong(f"it does not define the version {version}")
    hidden = struct.pack("<H", _HIDDEN | VERSION_INDEX)
    if sections[".gnu.version"].data() != bytes(2) + hidden * count:
        raise _wrong(f"a symbol has not the version {version}")


def _read(file: Path, version: str, soname: str) -> _Read:
    """Every dynamic symbol, in the file's order."""
    from elftools.elf.elffile import ELFFile

    with file.open("rb") as stream:
        elf = ELFFile(stream)
        sections = _Sections.of(elf)
        _check_dynamic(elf, sections, soname)
        words = array("Q", sections[".dynsym"].data()[8 * _SYMBOL_WORDS :])
        strings = sections[".dynstr"].data()
        _check_version(sections, version, len(words) // _SYMBOL_WORDS)
    if sys.byteorder == "big":
        words.byteswap()
    if words[2::3].tobytes().strip(b"\0"):
        raise _wrong("a symbol has a size")
    first = array("I", words[0::3].tobytes())  # halves: the name, and the rest
    return _Read(strings, list(first[0::2]), list(words[1::3]), list(first[1::2]))


def _kinds(exports: Exports, absolute: bool) -> list[int]:
    place = _ABSOLUTE if absolute else _PROTECTED
    kind = {True: place | _FUNCTION, False: place | _OBJECT}
    return list(map(kind.__getitem__, exports.functions))


def _order(read: _Read, names: Sequence[str]) -> Sequence[int]:
    """For each symbol of the file which of `names` it has; nothing where one has another name."""
    strings = read.strings.decode("ascii").split("\0")[:-1]
    sizes = map((1).__add__, map(len, strings))
    starts = list(itertools.accumulate(sizes, initial=0))
    if strings[1 : len(names) + 1] == names:  # in our order: as we write them
        own = starts[1 : len(names) + 1]
        if own == read.offsets:
            return range(len(names))
        by_offset = dict(zip(own, range(len(names)), strict=True))
    else:
        index = dict(zip(names, itertools.count()))
        pairs = zip(starts, map(index.get, strings), strict=False)
        by_offset = {start: i for start, i in pairs if i is not None}
    try:
        return list(map(by_offset.__getitem__, read.offsets))
    except KeyError:
        return []


def _by_name(names: Sequence[str], values: Sequence[int], kinds: Sequence[int]) -> _Rows:
    return dict(zip(names, zip(values, kinds, strict=True), strict=True))


def _difference(found: Mapping[str, object], expected: Mapping[str, object]) -> str:
    names = sorted(
        name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)
    )
    shown = [f"{name} is {found.get(name)}, not {expected.get(name)}" for name in names[:3]]
    return "; ".join(shown) or "a name is there twice"


def _named(read: _Read) -> list[str]:
    ends = [read.strings.index(b"\0", offset) for offset in read.offsets]
    pairs = zip(read.offsets, ends, strict=True)
    return [read.strings[offset:end].decode("ascii") for offset, end in pairs]


def compare(file: Path, exports: Exports, *, version: str, soname: str, absolute: bool) -> None:
    """Raise KbridgeError unless the file's symbols are just these, with these values and types,
    all with the hidden version.  The places of a stub's symbols have no meaning.

    In columns, since some 100,000 rows would take thrice as long.
    """
    found, kinds = _read(file, version, soname), _kinds(exports, absolute)
    values = exports.values if absolute else [0] * len(kinds)
    found_values = found.values if absolute else [0] * len(found.values)
    found_kinds = found.kinds if absolute else [kind & 0xFFFF for kind in found.kinds]
    order = _order(found, exports.names)
    if (
        len(order) != len(kinds)
        or len(set(order)) != len(kinds)
        or list(map(values.__getitem__, order)) != found_values
        or list(map(kinds.__getitem__, order)) != found_kinds
    ):
        expected = _by_name(exports.names, values, kinds)
        raise _wrong(_difference(_by_name(_named(found), found_values, found_kinds), expected))


# -- the programs that will read it --


def _with_readelf(file: Path, exports: Exports, version: str, absolute: bool) -> None:
    line = re.compile(
        r"^ *\d+: ([0-9a-f]{16}) +0 (FUNC|OBJECT) +GLOBAL (DEFAULT|PROTECTED) +(ABS|\d+) "
        rf"([!-?A-~]+)@{version}(?: \(\d+\))?$",
        re.MULTILINE,
    )
    listed = proc.run(["readelf", "-W", "--dyn-syms", file], what="reading libkernel.so back")
    found, expected = {}, {}
    for value, type_, visibility, section, name in line.findall(listed.stdout):
        found[name] = (type_, visibility, *((section, value) if absolute else ()))
    names, values = exports.names, exports.values
    for name, value, function in zip(names, values, exports.functions, strict=True):
        type_ = "FUNC" if function else "OBJECT"
        full = (type_, "DEFAULT", "ABS", f"{value:016x}")
        expected[name] = full if absolute else (type_, "PROTECTED")
    count = re.search(r"^Symbol table '\.dynsym' contains (\d+) entr", listed.stdout, re.MULTILINE)
    if found != expected or count is None or int(count[1]) != len(names) + 1:
        raise _wrong(f"to readelf {_difference(found, expected)}")


def _with_ld_so(file: Path, exports: Exports, version: str) -> None:
    result = proc.run(
        [sys.executable, "-I", "-c", _LD_SO, file.absolute(), version],
        what="asking ld.so for every symbol of libkernel.so",
        input="\n".join(exports.names),
    )
    pairs: Iterable[list[str]] = map(str.split, result.stdout.splitlines())
    found = {name: int(value) for name, value in pairs}
    expected = dict(zip(exports.names, exports.values, strict=True))
    if found != expected:
        raise _wrong(f"to ld.so {_difference(found, expected)}")


def cross_check(file: Path, exports: Exports, *, version: str, absolute: bool) -> None:
    """Raise KbridgeError unless readelf, and ld.so for a run-time file, see just these symbols."""
    _with_readelf(file, exports, version, absolute)
    if absolute:
        _with_ld_so(file, exports, version)
