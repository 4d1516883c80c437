# SPDX-License-Identifier: GPL-2.0-only
"""Reads the resident image back out of a program or library that kbridge linked.

The layout is that of kernel/kelevate/kelevate.h (struct kelevate_image, which lies in the section
.kbridge.program) and templates/gates.S.j2.  Nothing but the file is needed, and `strip` takes
nothing of it away.  Not for running: kelevate has its own checks.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from kbridge import abi, pack
from kbridge import elf as reader
from kbridge.errors import KbridgeError
from kbridge.inspect import view as views
from kbridge.inspect.view import Function, Reference, Region, Variable, View

_R_RELATIVE = 8  # R_X86_64_RELATIVE
_NAME_SIZE = 48
_HEAD = struct.Struct(f"<II{_NAME_SIZE}s")
# struct kelevate_image after its name: pointers, then 32-bit numbers
_POINTERS = (
    "content", "imports", "import_names", "records", "gates", "tables", "symbols", "strings",
    "args", "text_base",
)  # fmt: skip
_NUMBERS = (
    "text_end", "rodata_end", "end", "nimports", "nrecords", "ngates", "nsymbols",
    "import_names_size", "strings_size", "percpu", "percpu_size", "percpu_align", "init", "exit",
    "flags",
)  # fmt: skip
_WORD, _UNKNOWN = struct.Struct("<Q"), (1 << 64) - 1
_ABI = 6
_LINKED = 2  # of the flags
_BODY = struct.Struct(f"<{len(_POINTERS)}Q{len(_NUMBERS)}I")
_SECTIONS = {"image": ".kbridge", "program": ".kbridge.program"}


@dataclass
class Import:
    """A kernel symbol that ld.so or kelevate binds; `zero`: its address may be 0 (weak)."""

    name: str
    module: str
    zero: bool


@dataclass
class Program:
    """What the file says of its image."""

    view: View
    name: str
    link: str
    imports: list[Import] = field(default_factory=list)
    gates: list[tuple[str, int, int]] = field(default_factory=list)  # name, offset, stack words
    records: int = 0
    sizes: dict[str, int] = field(default_factory=dict)
    init: int | None = None
    exit: int | None = None


def _contents(elf: Any) -> Iterator[tuple[int, bytes]]:
    """The number and the bytes of each of kbridge's notes."""
    holders = [one for one in elf.iter_sections() if one["sh_type"] == "SHT_NOTE"]
    if not elf.num_sections():
        holders = [one for one in elf.iter_segments() if one["p_type"] == "PT_NOTE"]
    yield from reader.own_notes(holders)


def notes(elf: Any) -> dict[int, list[str]]:
    """The strings of kbridge's notes, by the note's number."""
    found: dict[int, list[str]] = {}
    for kind, content in _contents(elf):
        words = content.split(b"\0")[:-1]
        found.setdefault(kind, []).extend(word.decode("ascii", "replace") for word in words)
    return found


def symbols_of(elf: Any) -> str:
    """Of what the symbols of a libkernel.so are, and where KASLR had put that kernel; '' of others.

    Source: libkernel.py; its note has the slide in 8 bytes, all ones where nobody knew, and a name.
    """
    for kind, content in _contents(elf):
        if kind == reader.NOTE_SYMBOLS and len(content) > _WORD.size:
            (slide,) = _WORD.unpack_from(content)
            name = content[_WORD.size :].rstrip(b"\0").decode("ascii", "replace")
            known = f"{slide:#x}" if slide != _UNKNOWN else "unknown"
            return f"{name}, KASLR slide {known}"
    return ""


def interface(elf: Any) -> abi.Interface | None:
    """What the program says that it uses of the kernel's interface.  Raises KbridgeError."""
    records = [content for kind, content in _contents(elf) if kind == reader.NOTE_INTERFACE]
    return abi.decode(records[0]) if records else None


class _Memory:
    """The file as ld.so lays it out: bytes by address, pointers with the relocations done."""

    def __init__(self, elf: Any) -> None:
        self.segments = [
            (segment["p_vaddr"], segment["p_filesz"], segment)
            for segment in elf.iter_segments()
            if segment["p_type"] == "PT_LOAD"
        ]
        self.pointers: dict[int, int] = {}
        table = reader.section(elf, ".rela.dyn")
        if table is not None:
            for relocation in table.iter_relocations():
                if relocation["r_info_type"] == _R_RELATIVE:
                    self.pointers[relocation["r_offset"]] = relocation["r_addend"]

    def read(self, address: int, size: int, what: str) -> bytes:
        for start, held, segment in self.segments:
            if start <= address and address + size <= start + held:
                stream = segment.stream
                stream.seek(segment["p_offset"] + address - start)
                content: bytes = stream.read(size)
                return content
        raise KbridgeError(f"its {what} are not in the file")


class _Structure:
    """struct kelevate_image: every field by its name."""

    def __init__(self, memory: _Memory, section: Any, image: int) -> None:
        content = section.data()
        for offset in range(0, len(content) - _HEAD.size - 8 + 1, 8):
            self.abi, _, name = _HEAD.unpack_from(content, offset)
            pointer = section["sh_addr"] + offset + _HEAD.size
            (first,) = struct.unpack_from("<Q", content, offset + _HEAD.size)
            if memory.pointers.get(pointer, first) == image and self.abi:
                break
        else:
            raise KbridgeError("it has a kernel image, but no description of it")
        if self.abi != _ABI:
            raise KbridgeError(
                f"it was linked by another kbridge (ABI {self.abi}, this one reads {_ABI})",
                hint="build it again, or inspect it with the kbridge that built it",
            )
        self.name = name.partition(b"\0")[0].decode("ascii", "replace")
        words = _BODY.unpack_from(content, offset + _HEAD.size)
        self.values = dict(zip((*_POINTERS, *_NUMBERS), words, strict=True))
        for index, field_ in enumerate(_POINTERS):
            moved = memory.pointers.get(pointer + 8 * index)
            self.values[field_] = self.values[field_] if moved is None else moved

    def __getitem__(self, name: str) -> int:
        return int(self.values[name])


def _blob(memory: _Memory, head: _Structure, name: str, size: int) -> bytes:
    return memory.read(head[name], size, name.replace("_", " ")) if size else b""


def _imports(memory: _Memory, head: _Structure) -> list[Import]:
    blob = _blob(memory, head, "import_names", head["import_names_size"])
    names = blob.decode("utf-8", "replace").split("\0")[:-1]
    if len(names) != head["nimports"]:
        raise KbridgeError(f"it has {head['nimports']} import words and {len(names)} names")
    found = []
    for text in names:
        name, _, module = text.removeprefix("?").partition(" ")
        found.append(Import(name, module.strip("[]"), text.startswith("?")))
    return found


def _references(memory: _Memory, head: _Structure, names: list[Import]) -> list[Reference]:
    found = []
    kinds = {pack.SYM_IMAGE: views.INSIDE, pack.SYM_PERCPU: views.PERCPU}
    for row in struct.iter_unpack("<QQq", _blob(memory, head, "records", 24 * head["nrecords"])):
        at, info, addend = row
        symbol, type_ = info >> 32, info & 0xFFFFFFFF
        index = symbol - pack.SYM_IMPORT
        if index >= len(names):
            raise KbridgeError(f"a relocation record names import word {index}, which is not there")
        name = names[index].name if index >= 0 else ""
        kind = views.IMPORT if index >= 0 else kinds.get(symbol, views.OTHER)
        found.append(Reference(at, type_, kind, name, addend))
    return found


def _functions(memory: _Memory, head: _Structure) -> list[Function]:
    strings = _blob(memory, head, "strings", head["strings_size"])
    found = []
    table = _blob(memory, head, "symbols", 24 * head["nsymbols"])
    for name, _, _, section, value, size in struct.iter_unpack("<IBBHQQ", table):
        if section and value < head["text_end"]:
            text = strings[name : strings.find(b"\0", name)].decode("utf-8", "replace")
            found.append(Function(value, size, text))
    return found


def _gates(memory: _Memory, head: _Structure, view: View) -> list[tuple[str, int, int]]:
    """Gates are in the order of their names; that decides between several names of one place."""
    names: dict[int, list[str]] = {}
    for function in view.functions:
        names.setdefault(function.start, []).append(function.name)
    found: list[tuple[str, int, int]] = []
    last = ""
    for offset, words in struct.iter_unpack(
        "<II", _blob(memory, head, "gates", 8 * head["ngates"])
    ):
        known = sorted(names.get(offset, []))
        if offset + 1 == head["init"] and "init_module" in known:
            known = ["init_module"]
        name = next((one for one in known if one > last), f"{offset:#x}")
        last = max(last, name)
        found.append((name, offset, words))
    return found


def _regions(head: _Structure, content: bytes, places: list[str], view: View) -> None:
    """From the note that says what of the object went where; else the three parts."""
    text_end, rodata_end = head["text_end"], head["rodata_end"]

    def region(name: str, start: int, size: int) -> Region:
        return Region(name, start, size, start < text_end, content[start : start + size])

    for place in places:
        kind, offset, size, name = place.split(" ", 3)
        start, length = int(offset, 16), int(size, 16)
        if kind == "i" and length:
            view.regions.append(region(name, start, length))
        elif kind == "v":
            view.variables.append(Variable(start, length, name))
        elif kind == "-":
            view.left_out.append((name, length))
    if not view.regions:
        view.regions += [
            region(".text", 0, text_end),
            region(".rodata", text_end, rodata_end - text_end),
            region(".data", rodata_end, head["end"] - rodata_end),
        ]


def has_image(elf: Any) -> bool:
    return reader.section(elf, _SECTIONS["image"]) is not None


def read(elf: Any, places: list[str]) -> Program:
    """The image in a linked file; `places` are the strings of the note NOTE_PLACES.

    Raises KbridgeError with what is wrong with it.
    """
    image, described = (reader.section(elf, name) for name in _SECTIONS.values())
    if described is None:
        raise KbridgeError("it has a kernel image, but no description of it")
    memory = _Memory(elf)
    head = _Structure(memory, described, image["sh_addr"])
    content: bytes = image.data()
    edges = (0, head["text_end"], head["rodata_end"], head["end"], len(content))
    if list(edges) != sorted(edges):
        raise KbridgeError("the parts of its image do not fit in it")
    view = View()
    _regions(head, content, places, view)
    imports = _imports(memory, head)
    view.references += _references(memory, head, imports)
    view.functions += _functions(memory, head)
    view.finish()
    return Program(
        view=view,
        name=head.name,
        link="script" if head["flags"] & _LINKED else "libkernel",
        imports=imports,
        gates=_gates(memory, head, view),
        records=head["nrecords"],
        sizes={
            "text": edges[1],
            "rodata": edges[2] - edges[1],
            "data": edges[3] - edges[2],
            "percpu": head["percpu_size"],
        },
        init=head["init"] - 1 if head["init"] else None,
        exit=head["exit"] - 1 if head["exit"] else None,
    )
