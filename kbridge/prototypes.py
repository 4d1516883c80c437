# SPDX-License-Identifier: GPL-2.0-only
"""Reads from a kmod object's DWARF how its external functions are called.

A gate carries integer and pointer words only, so what matters of a prototype is how many words
travel on the stack, and whether anything else is in it.  Not for the app's side: that is C.

Source: System V psABI for x86-64, 3.2.3 (parameter passing).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from elftools.elf.elffile import ELFFile

from kbridge import dwarf

_REGISTERS = 6
_TRANSPARENT = {
    "DW_TAG_typedef",
    "DW_TAG_const_type",
    "DW_TAG_volatile_type",
    "DW_TAG_restrict_type",
    "DW_TAG_atomic_type",
}
_POINTERS = {"DW_TAG_pointer_type", "DW_TAG_reference_type"}
_AGGREGATES = {"DW_TAG_structure_type", "DW_TAG_union_type", "DW_TAG_class_type"}
_FLOATS = {3, 4}  # DW_ATE_complex_float, DW_ATE_float


@dataclass(frozen=True)
class Prototype:
    """How a function is called; `problem` says why no gate can carry it."""

    name: str
    file: str
    line: int
    stack_words: int
    problem: str | None = None

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


class _UnsupportedError(Exception):
    """A parameter or result that is neither integer nor pointer words."""


def read(elf: ELFFile, names: Collection[str]) -> dict[str, Prototype]:
    """The prototypes of the functions `names` that the object defines, by name.

    A name that the debug information does not describe (assembly, say) is not in the result.
    """
    debug = dwarf.information(elf)
    if debug is None:
        return {}
    found: dict[str, Prototype] = {}
    for unit in debug.iter_CUs():
        top = unit.get_top_DIE()
        for die in top.iter_children():
            # a static function of another source may have the same name
            if die.tag != "DW_TAG_subprogram" or "DW_AT_external" not in die.attributes:
                continue
            if "DW_AT_declaration" in die.attributes:
                continue
            name = _name(die)
            if name in names and name not in found:
                found[name] = _prototype(die, name)
    return found


def _name(die: Any) -> str:
    attribute = die.attributes.get("DW_AT_name")
    return attribute.value.decode(errors="replace") if attribute else ""


def _file(die: Any) -> str:
    top = die.cu.get_top_DIE()
    unit = _name(top)
    index = die.attributes.get("DW_AT_decl_file")
    program = die.cu.dwarfinfo.line_program_for_CU(die.cu)
    if index is None or program is None:
        return unit
    entries = program["file_entry"]
    at = index.value if program["version"] >= 5 else index.value - 1
    if not 0 <= at < len(entries):
        return unit
    file = entries[at].name
    text = file.decode(errors="replace") if isinstance(file, bytes) else str(file)
    return unit if unit.endswith("/" + text) else text


def _prototype(die: Any, name: str) -> Prototype:
    line = die.attributes.get("DW_AT_decl_line")
    where = (_file(die), line.value if line else 0)
    try:
        _check_result(_type(die))
        return Prototype(name, *where, _stack_words(die))
    except _UnsupportedError as problem:
        return Prototype(name, *where, 0, str(problem))


def _parameters(die: Any) -> Iterator[Any]:
    for child in die.iter_children():
        if child.tag == "DW_TAG_unspecified_parameters":
            raise _UnsupportedError("it is variadic")
        if child.tag == "DW_TAG_formal_parameter":
            yield child


def _type(die: Any) -> Any:
    """The type of a DIE behind typedefs and qualifiers, None for void."""
    while "DW_AT_type" in die.attributes:
        die = die.get_DIE_from_attribute("DW_AT_type")
        if die.tag not in _TRANSPARENT:
            return die
    return None


def _has_float(kind: Any) -> bool:
    if kind is None:
        return False
    if kind.tag == "DW_TAG_base_type":
        return kind.attributes["DW_AT_encoding"].value in _FLOATS
    if kind.tag in _AGGREGATES:
        return any(_has_float(_type(member)) for member in _members(kind))
    if kind.tag == "DW_TAG_array_type":
        return "DW_AT_GNU_vector" in kind.attributes or _has_float(_type(kind))
    return False


def _size(kind: Any) -> int:
    if kind is None or kind.tag in _POINTERS:
        return 8
    if kind.tag == "DW_TAG_array_type":
        return _size(_type(kind))  # of an element: what alignment is about
    size = kind.attributes.get("DW_AT_byte_size")
    return size.value if size else 8


def _check_result(kind: Any) -> None:
    if _has_float(kind):
        raise _UnsupportedError("it returns floating point")
    if _in_memory(kind):
        raise _UnsupportedError("it returns a structure in memory")


def _in_memory(kind: Any) -> bool:
    """Class MEMORY: an aggregate of more than two words, or with a field that is not aligned."""
    if kind is None or kind.tag not in _AGGREGATES:
        return False
    return _size(kind) > 16 or _unaligned(kind)


def _unaligned(kind: Any, offset: int = 0) -> bool:
    """Whether a field lies off its natural alignment (a packed structure); bit-fields may."""
    if kind is None:
        return False
    if kind.tag in _AGGREGATES:
        return any(
            _unaligned(_type(member), offset + _offset(member))
            for member in _members(kind)
            if not {"DW_AT_bit_size", "DW_AT_data_bit_offset"} & set(member.attributes)
        )
    if kind.tag == "DW_TAG_array_type":
        element = _type(kind)
        return _unaligned(element, offset) or _unaligned(element, offset + _size(element))
    return offset % max(1, min(_size(kind), 16)) != 0


def _members(kind: Any) -> Iterator[Any]:
    return (child for child in kind.iter_children() if child.tag == "DW_TAG_member")


def _offset(member: Any) -> int:
    place = member.attributes.get("DW_AT_data_member_location")
    return place.value if place is not None and isinstance(place.value, int) else 0


def _stack_words(die: Any) -> int:
    """Words that the caller puts on the stack: those the six registers have no room for."""
    free, stack = _REGISTERS, 0
    for parameter in _parameters(die):
        kind = _type(parameter)
        if _has_float(kind):
            raise _UnsupportedError("it takes floating point")
        words = (_size(kind) + 7) // 8
        if _in_memory(kind) or words > free:
            unit = max(8, _alignment(kind)) // 8
            stack = -(-stack // unit) * unit + words
        else:
            free -= words
    return stack


def _asked(die: Any) -> int:
    """What __attribute__((aligned(N))) asks for."""
    asked = die.attributes.get("DW_AT_alignment")
    return int(asked.value) if asked else 1


def _alignment(kind: Any) -> int:
    """In bytes; the stack area aligns what needs more than a word (__int128, aligned types)."""
    if kind is None:
        return 1
    if kind.tag in _AGGREGATES:
        inside = [max(_asked(one), _alignment(_type(one))) for one in _members(kind)]
        return max([_asked(kind), *inside])
    if kind.tag == "DW_TAG_array_type":
        return max(_asked(kind), _alignment(_type(kind)))
    return max(_asked(kind), min(_size(kind), 16))
