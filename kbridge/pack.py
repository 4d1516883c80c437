# SPDX-License-Identifier: GPL-2.0-only
"""Packs one relocatable kmod object into a resident image.

The image is a page-aligned run of bytes, text | read-only data | data and bss, that neither ld
nor ld.so touches.  Whatever the kernel's addresses decide is written down beside it: import
words by name, and relocation records that kelevate applies.  The layout is that of
kernel/kelevate/kelevate.h.  Sections of a class that nobody would finish are refused by name.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from elftools.common.exceptions import ELFError
from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile

from kbridge import elf as reader
from kbridge import lines, log, prototypes, residue, sections
from kbridge.errors import KbridgeError
from kbridge.symbols.table import LINKER_ALIASES

PAGE = 4096
MAX_IMAGE = 64 << 20  # KELEVATE_MAX_IMAGE, bytes
MAX_PERCPU = 8 << 10  # bytes: PERCPU_MODULE_RESERVE, what a kernel has for all its modules
MAX_GATES, MAX_RECORDS = 1 << 16, 1 << 22  # image.c, check_image()
MAX_STACK_WORDS = 256  # KELEVATE_MAX_STACK_WORDS

# enum kelevate_symbol
SYM_IMAGE, SYM_PERCPU, SYM_MODULE, SYM_ABS, SYM_IMPORT = range(5)

# the x86-64 psABI's relocation types (elf.h)
R_64, R_PC32, R_GOTPCREL, R_PLT32, R_32, R_32S, R_PC64 = 1, 2, 9, 4, 10, 11, 24
R_GOTPCRELX, R_REX_GOTPCRELX = 41, 42
_GOT = (R_GOTPCREL, R_GOTPCRELX, R_REX_GOTPCRELX)
_WIDTH = {R_64: 8, R_PC64: 8, R_PC32: 4, R_32: 4, R_32S: 4}
_TYPE_NAMES = {
    3: "GOT32", 10: "32", 19: "TLSGD", 20: "TLSLD", 22: "GOTTPOFF", 23: "TPOFF32", 26: "GOTPC32",
}  # fmt: skip


# What macros and objtool put beside functions of the source: nothing for an app to call.
# objtool's prefix symbols; static call trampolines; the insides of tracepoints
_GENERATED = ("__pfx_", "__cfi_", "__SCT__", "__traceiter_", "__probestub_")


class Record(NamedTuple):
    """One struct elf64_rela of the image."""

    offset: int
    type: int
    symbol: int
    addend: int


class Gate(NamedTuple):
    """A function that the app can call: where it is, and words it takes on the stack."""

    name: str
    offset: int
    stack_words: int


class Import(NamedTuple):
    """A kernel symbol that the image needs, and the first place in the object that names it."""

    name: str
    weak: bool
    section: int
    offset: int


class Place(NamedTuple):
    """Where something of the object went: for `kbridge inspect`, nothing at run time reads it.

    `kind`: i, a section in the image; p, one in the per-CPU area; v, a per-CPU variable; -, a
    section left out.  Offset and size in bytes.
    """

    kind: str
    offset: int
    size: int
    name: str


@dataclass
class Image:
    """A packed image; all offsets and sizes are bytes from its start."""

    content: bytearray = field(default_factory=bytearray)
    text_end: int = 0
    rodata_end: int = 0
    records: list[Record] = field(default_factory=list)
    imports: list[Import] = field(default_factory=list)
    tables: list[tuple[int, int]] = field(default_factory=list)
    functions: list[tuple[str, int, int]] = field(default_factory=list)
    gates: list[Gate] = field(default_factory=list)
    no_gate: dict[str, str] = field(default_factory=dict)
    percpu: tuple[int, int] = (0, 0)  # offset and size of the per-CPU data's initial values
    percpu_align: int = 8
    takes_text: bool = False  # data of it holds the address of code
    init: int | None = None
    exit: int | None = None
    places: list[Place] = field(default_factory=list)

    @property
    def end(self) -> int:
        return len(self.content)


def _up(value: int, alignment: int) -> int:
    return (value + alignment - 1) & -alignment


@dataclass(frozen=True)
class _Symbol:
    name: str
    bind: str
    type: str
    section: int | str
    value: int
    size: int


class _Packer:
    """One run of the pass over one object."""

    def __init__(self, elf: ELFFile, name: str, allow: Collection[str]) -> None:
        self.elf = elf
        self.name = name
        self.allow = tuple(allow)
        self.image = Image()
        self.sections: list[Any] = list(elf.iter_sections())
        self.symbols = self._read_symbols()
        self.offsets: dict[int, int] = {}  # section -> place in the image
        self.percpu: dict[int, int] = {}  # section -> place in the per-CPU area
        self.imports: dict[str, int] = {}
        self.got: dict[tuple[int, int], int] = {}
        self.got_start = 0

    def _read_symbols(self) -> list[_Symbol]:
        table = reader.section(self.elf, ".symtab")
        if table is None:
            raise KbridgeError(f"{self.name}: no symbol table")
        return [
            _Symbol(
                symbol.name,
                symbol["st_info"]["bind"],
                symbol["st_info"]["type"],
                symbol["st_shndx"],
                symbol["st_value"],
                symbol["st_size"],
            )
            for symbol in table.iter_symbols()
        ]

    # -- layout --

    def _wanted(self) -> list[int]:
        # empty sections too: an empty structure (lock_class_key) still has an address
        wanted = [
            index
            for index, section in enumerate(self.sections)
            if section["sh_flags"] & SH_FLAGS.SHF_ALLOC and sections.is_placed(section.name)
        ]
        for index in wanted:
            if self.sections[index]["sh_size"]:
                self._judge(index)
        return wanted

    def _judge(self, index: int) -> None:
        """Refuse a section that nobody would finish; say what of others has no effect."""
        section = str(self.sections[index].name)
        if sections.INERT.get(section):
            log.warning(f"{self.name}: section {section}: {sections.INERT[section]}")
        refusal = sections.refusal(section)
        if refusal and refusal.name not in self.allow:
            raise KbridgeError(
                f"{self._about(index)}: section {section} {refusal.why} (class {refusal.name})",
                hint=refusal.hint,
            )

    def _about(self, index: int) -> str:
        """Who put something into a section, and where: for messages."""
        inside = [one for one in self.symbols if one.section == index and one.name]
        for section in self.sections:
            if section["sh_type"] != "SHT_RELA":
                continue
            for relocation in section.iter_relocations():
                symbol = self.symbols[relocation["r_info_sym"]]
                place = section["sh_info"], relocation["r_offset"]
                if place[0] == index and isinstance(symbol.section, int):
                    # a pointer in it to code that has a line
                    start = symbol.value + (
                        relocation["r_addend"] if symbol.type == "STT_SECTION" else 0
                    )
                    place = symbol.section, start
                elif symbol.section != index:
                    continue
                where = self._line(*place)
                if where != self.name:
                    user = self._function(*place)
                    return f"{where}: {inside[0].name} in {user}" if inside else f"{where}: {user}"
        return f"{self.name}: {inside[0].name}" if inside else self.name

    def _part(self, index: int) -> int:
        flags = self.sections[index]["sh_flags"]
        if flags & SH_FLAGS.SHF_EXECINSTR:
            return 0
        # -fPIC has constants with addresses in them there; they are relocated before the image
        # becomes read-only
        if self.sections[index].name.startswith(".data.rel.ro"):
            return 1
        return 2 if flags & SH_FLAGS.SHF_WRITE else 1

    def _is_bss(self, index: int) -> bool:
        return bool(self.sections[index]["sh_type"] == "SHT_NOBITS")

    def lay_out(self) -> None:
        wanted = self._wanted()
        per_cpu = [i for i in wanted if self.sections[i].name.startswith(".data..percpu")]
        position, ends = 0, []
        for part in range(3):
            mine = [i for i in wanted if self._part(i) == part and i not in per_cpu]
            for index in sorted(mine, key=self._is_bss):
                position = _up(position, max(1, self.sections[index]["sh_addralign"]))
                self.offsets[index] = position
                position += self.sections[index]["sh_size"]
            if part == 1:
                self.got_start = position = _up(position, 8)
                position += 8 * self._got_slots()
            elif part == 2:
                position = self._place_percpu(per_cpu, position)
            position = _up(position, PAGE)
            ends.append(position)
        if ends[2] > MAX_IMAGE:
            raise KbridgeError(
                f"{self.name}: {ends[2]} bytes, and an image has {MAX_IMAGE} at most"
            )
        image = self.image
        image.text_end, image.rodata_end = ends[0], ends[1]
        image.content = bytearray(ends[2])
        start = image.percpu[0]
        places = {index: start + offset for index, offset in self.percpu.items()}
        for index, offset in (*self.offsets.items(), *places.items()):
            if not self._is_bss(index):
                section = self.sections[index]
                image.content[offset : offset + section["sh_size"]] = section.data()

    def _place_percpu(self, sections: list[int], position: int) -> int:
        """Per-CPU sections: their initial values at `position`, to be copied to every CPU."""
        size = 0
        for index in sections:
            section = self.sections[index]
            alignment = max(1, section["sh_addralign"])
            self.image.percpu_align = max(self.image.percpu_align, alignment)
            self.percpu[index] = size = _up(size, alignment)
            size += section["sh_size"]
        if not size:
            return position
        if size > MAX_PERCPU:
            raise KbridgeError(
                f"{self.name}: {size} bytes of per-CPU data, and an image has {MAX_PERCPU} at most",
                hint="allocate it: alloc_percpu()",
            )
        self.image.percpu = (_up(position, self.image.percpu_align), size)
        return sum(self.image.percpu)

    def _got_slots(self) -> int:
        return sum(
            1
            for _, relocations in self._relocations(everywhere=True)
            for relocation in relocations
            if relocation["r_info_type"] in _GOT
        )

    def _relocations(self, *, everywhere: bool = False) -> Iterator[tuple[int, Iterator[Any]]]:
        """(section, its relocations) for each placed section, or for each allocated one."""
        for section in self.sections:
            if section["sh_type"] != "SHT_RELA":
                continue
            index = section["sh_info"]
            allocated = self.sections[index]["sh_flags"] & SH_FLAGS.SHF_ALLOC
            if index in self.offsets or index in self.percpu or (everywhere and allocated):
                yield index, section.iter_relocations()

    # -- relocation --

    def _line(self, section: int, offset: int) -> str:
        return lines.SourceLines(self.elf, self.name).at(section, offset)

    def _import(self, symbol: _Symbol, section: int, offset: int) -> int:
        name = LINKER_ALIASES.get(symbol.name, symbol.name)
        if name not in self.imports:
            self.imports[name] = SYM_IMPORT + len(self.imports)
            weak = symbol.bind == "STB_WEAK"
            self.image.imports.append(Import(name, weak, section, offset))
        return self.imports[name]

    def _target(self, symbol: _Symbol, section: int, offset: int) -> tuple[int, int]:
        """What a relocation is relative to, and the addend that this brings."""
        where = symbol.section
        if where in self.offsets:
            return SYM_IMAGE, self.offsets[int(where)] + symbol.value
        if where in self.percpu:
            return SYM_PERCPU, self.percpu[int(where)] + symbol.value
        if where == "SHN_ABS":
            return SYM_ABS, symbol.value
        if where == "SHN_UNDEF":
            if symbol.name == "__this_module":
                return SYM_MODULE, 0
            if not symbol.name:
                return SYM_ABS, 0
            return self._import(symbol, section, offset), 0
        place = where if isinstance(where, str) else self.sections[where].name
        raise KbridgeError(
            f"{self._line(section, offset)}: refers to {symbol.name or 'data'} in {place}, "
            "which is not part of an image"
        )

    def _got_slot(self, target: tuple[int, int]) -> int:
        if target not in self.got:
            slot = self.got_start + 8 * len(self.got)
            self.got[target] = slot
            self.image.records.append(Record(slot, R_64, *target))
        return self.got[target]

    def _relocate_one(self, section: int, relocation: Any) -> None:
        kind: int = relocation["r_info_type"]
        symbol = self.symbols[relocation["r_info_sym"]]
        offset: int = relocation["r_offset"]
        if kind == 0:
            return
        at = offset + (
            self.image.percpu[0] + self.percpu[section]
            if section in self.percpu
            else self.offsets[section]
        )
        if symbol.name == "__fentry__":
            # call __fentry__ becomes the 5-byte NOP that ftrace would put there
            self.image.content[at - 1 : at + 4] = b"\x0f\x1f\x44\x00\x00"
            return
        target = self._target(symbol, section, offset)
        if kind in _GOT:
            self._note_pointer(section, R_64, symbol)
            kind, target = R_PC32, (SYM_IMAGE, self._got_slot(target))
        if kind == R_PLT32:
            kind = R_PC32
        # no address of the kernel fits into 32 bits that are extended with zeros
        if kind not in _WIDTH or (kind == R_32 and target[0] in (SYM_IMAGE, SYM_MODULE)):
            self._refuse_relocation(kind, symbol, section, offset)
            return
        self._note_pointer(section, kind, symbol)
        self._write(at, kind, target[0], target[1] + relocation["r_addend"])

    def _note_pointer(self, section: int, kind: int, symbol: _Symbol) -> None:
        """Notice a pointer to code; callbacks.py looks for those that instructions make."""
        if symbol.section not in self.offsets or self._part(int(symbol.section)):
            return
        relative = kind in (R_PC32, R_PC64)
        # the kernel reads its tables, it does not call what is in them
        table = self.sections[section].name in sections.TABLES
        self.image.takes_text |= not table and not (relative and self._part(section) == 0)

    def _refuse_relocation(self, kind: int, symbol: _Symbol, section: int, offset: int) -> None:
        what = (
            f"{self._line(section, offset)}: in {self._function(section, offset)}: relocation "
            f"R_X86_64_{_TYPE_NAMES.get(kind, kind)} against {symbol.name or 'data'}"
        )
        if "relocation" not in self.allow:
            raise KbridgeError(
                f"{what} has no meaning in the kernel (class relocation)",
                hint="thread-local variables, 32-bit addresses and dynamic linking are user-space "
                "features; to leave the place as it is: --allow relocation",
            )
        log.warning(f"{what} is left as the assembler wrote it")

    def _function(self, section: int, offset: int) -> str:
        """What lies at a place, for messages."""
        for symbol in self.symbols:
            inside = symbol.value <= offset < symbol.value + symbol.size
            if symbol.section == section and inside and symbol.type != "STT_SECTION":
                return f"{symbol.name}()" if symbol.type == "STT_FUNC" else symbol.name
        return str(self.sections[section].name)

    def _write(self, at: int, kind: int, symbol: int, addend: int) -> None:
        """Bytes, where the image's own layout decides them; else a record."""
        if symbol == SYM_IMAGE and kind in (R_PC32, R_PC64):
            form = "<i" if kind == R_PC32 else "<q"
            struct.pack_into(form, self.image.content, at, addend - at)
        else:
            self.image.records.append(Record(at, kind, symbol, addend))

    def relocate(self) -> None:
        for section, relocations in self._relocations():
            for relocation in relocations:
                self._relocate_one(section, relocation)
        self.image.records.sort()
        self._limit("addresses to relocate", len(self.image.records), MAX_RECORDS)

    def _limit(self, what: str, count: int, most: int) -> None:
        if count > most:
            raise KbridgeError(
                f"{self.name}: {count} {what}, and an image has {most} at most",
                hint="make several libraries of it, or functions static",
            )

    # -- inspection --

    def inspect(self) -> None:
        """Refuse instructions that have no place in a kmod."""
        code = {
            index: self.sections[index].data()
            for index in self.offsets
            if self._part(index) == 0 and not self._is_bss(index)
        }
        functions = []
        for section, content in code.items():
            # labels of assembly too, which need not be of type FUNC
            starts = {
                symbol.value: symbol.name
                for symbol in self.symbols
                if symbol.section == section and symbol.type in ("STT_FUNC", "STT_NOTYPE")
            }
            starts.setdefault(0, str(self.sections[section].name))
            ends = [*sorted(starts)[1:], len(content)]
            functions += [
                residue.Function(starts[start], section, start, content[start:end])
                for start, end in zip(sorted(starts), ends, strict=True)
            ]
        residue.check(functions, self._line, self.allow)

    # -- what others need to know --

    def describe(self) -> None:
        image = self.image
        for name in sections.TABLES:
            found = [i for i in self.offsets if self.sections[i].name == name]
            if len(found) > 1:
                raise KbridgeError(f"{self.name}: several sections {name}")
            place = (
                (self.offsets[found[0]], self.sections[found[0]]["sh_size"]) if found else (0, 0)
            )
            image.tables.append(place)
        for symbol in self.symbols:
            if symbol.type == "STT_FUNC" and symbol.section in self.offsets:
                offset = self.offsets[int(symbol.section)] + symbol.value
                image.functions.append((symbol.name, offset, symbol.size))
                if symbol.name == "init_module":
                    image.init = offset
                elif symbol.name == "cleanup_module":
                    image.exit = offset
        image.functions.sort(key=lambda function: function[1:])
        image.places = sorted(self._places())
        self._make_gates()

    def _places(self) -> Iterator[Place]:
        for index, section in enumerate(self.sections):
            name, size = section.name, section["sh_size"]
            if index in self.offsets:
                yield Place("i", self.offsets[index], size, name)
            elif index in self.percpu:
                yield Place("p", self.percpu[index], size, name)
            elif size and section["sh_flags"] & SH_FLAGS.SHF_ALLOC:
                yield Place("-", 0, size, name)
        for symbol in self.symbols:
            if symbol.type == "STT_OBJECT" and symbol.section in self.percpu:
                offset = self.percpu[int(symbol.section)] + symbol.value
                yield Place("v", offset, symbol.size, symbol.name)

    def _external(self) -> Iterator[tuple[_Symbol, int]]:
        for symbol in self.symbols:
            if symbol.bind not in ("STB_GLOBAL", "STB_WEAK") or symbol.section == "SHN_UNDEF":
                continue
            if symbol.section not in self.offsets or symbol.name.startswith(_GENERATED):
                continue
            if symbol.name == "cleanup_module":
                continue
            yield symbol, self.offsets[int(symbol.section)] + symbol.value

    def _make_gates(self) -> None:
        image = self.image
        functions = {
            symbol.name: offset
            for symbol, offset in self._external()
            if symbol.type == "STT_FUNC" and offset < image.text_end
        }
        for symbol, _ in self._external():
            if symbol.name not in functions:
                image.no_gate[symbol.name] = (
                    "it is a variable of the kmod, which lives in the kernel"
                )
        if functions and reader.section(self.elf, ".debug_info") is None:
            raise KbridgeError(
                f"{self.name}: no debug information, so nobody knows what its functions take",
                hint="do not switch it off: leave -g0 out of the compiler flags",
            )
        self._limit("functions that are not static", len(functions), MAX_GATES)
        known = prototypes.read(self.elf, functions)
        at = {functions[name]: prototype for name, prototype in known.items()}
        for name, offset in sorted(functions.items()):
            prototype = known.get(name) or at.get(offset)  # an alias is called as its function
            if prototype is None:  # assembly: words in registers
                image.gates.append(Gate(name, offset, 0))
            elif prototype.problem:
                image.no_gate[name] = f"{prototype.problem} ({prototype.where})"
            elif prototype.stack_words > MAX_STACK_WORDS:
                image.no_gate[name] = f"it takes more than {MAX_STACK_WORDS + 6} words"
            else:
                image.gates.append(Gate(name, offset, prototype.stack_words))


def pack(path: Path, name: str | None = None, *, allow: Collection[str] = ()) -> Image:
    """Pack the relocatable object at `path`; messages call it `name`.

    `allow` are classes (options.REFUSED_CLASSES) that are not refused.
    Raises KbridgeError that names the place in the source for whatever an image cannot hold.
    """
    try:
        with path.open("rb") as stream:
            elf = ELFFile(stream)
            if elf["e_type"] != "ET_REL" or elf["e_machine"] != "EM_X86_64":
                raise KbridgeError(f"{path}: not a relocatable x86-64 object")
            packer = _Packer(elf, name or path.stem, allow)
            packer.lay_out()
            packer.inspect()
            packer.relocate()
            packer.describe()
            return packer.image
    except ELFError as problem:
        raise KbridgeError(f"{path}: damaged object: {problem}") from problem
    except OSError as problem:
        raise KbridgeError(f"cannot read {path}: {problem.strerror}") from problem
