# SPDX-License-Identifier: GPL-2.0-only
"""Compares types of one kernel with those of another, member by member, from their BTF.

Types are told apart by name, as C files of different kernels can only do.  What a type holds by
value and what its typedefs stand for is compared with it; what it points to is not: whoever looks
through the pointer knows that type too, and has it compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from kbridge import btf
from kbridge.btf import Btf, Type

KINDS = {"struct": (btf.STRUCT,), "union": (btf.UNION,), "enum": (btf.ENUM, btf.ENUM64)}
_TYPEDEF = {"typedef": (btf.TYPEDEF,)}
_COMPOSITE = {btf.STRUCT: "struct", btf.UNION: "union"}
_ENUMERATIONS = (btf.ENUM, btf.ENUM64)
_DEEPEST = 64  # structures in structures, all without names
_MOST = 1 << 16  # rows of a type
_WIDEST = 60  # characters of a type in a message

Named = tuple[str, str]  # struct, union, enum or typedef, and the name


class Row(NamedTuple):
    """A member (of the members without names too), or an enumerator with its value as `offset`."""

    name: str
    offset: int  # bits
    bits: int
    type: str


@dataclass(frozen=True)
class Shape:
    """All that is compared of a type; `needs` are the types that belong to it."""

    size: int
    rows: tuple[Row, ...]
    needs: frozenset[Named]


class Layouts:
    """The types of one kernel: its own BTF, and that of modules on top of it."""

    def __init__(self, types: Btf, modules: Iterable[Btf] = ()) -> None:
        self._types = types
        self._modules = list(modules)
        self._texts: dict[tuple[int, int], tuple[str, tuple[Row, ...], frozenset[Named]]] = {}
        self._depth = 0  # of types without names in types without names

    def _numbers(self, name: str, kinds: Sequence[int]) -> Iterator[tuple[Btf, int]]:
        for kind in kinds:
            own = self._types.all_named(name, kind)
            yield from ((self._types, number) for number in own)
            for module in self._modules:
                known = set(own)
                yield from ((module, n) for n in module.all_named(name, kind) if n not in known)

    def shapes(self, named: Named) -> list[Shape]:
        """Every type of that name, each once; files may have several that differ."""
        kinds = {**KINDS, **_TYPEDEF}[named[0]]
        found = []
        for types, number in self._numbers(named[1], kinds):
            self._depth = 0
            shape = self._shape(types, types.type(number))
            if shape not in found:
                found.append(shape)
        return found

    def signatures(self, name: str, *, function: bool) -> list[tuple[str, ...]]:
        """Of the functions of that name what they return and take, else the variables' types."""
        found = []
        self._depth = 0
        for types, number in self._numbers(name, (btf.FUNC if function else btf.VAR,)):
            type_ = types.type(number)
            parts = types.inner(types.type(type_.link)) if function else [type_.link]
            texts = tuple(self._text(types, part)[0] if part else "void" for part in parts)
            if texts not in found:
                found.append(texts)
        return found

    def needs(self, name: str, *, function: bool) -> frozenset[Named]:
        """The types that the signatures hold by value."""
        found: set[Named] = set()
        for types, number in self._numbers(name, (btf.FUNC if function else btf.VAR,)):
            type_ = types.type(number)
            parts = types.inner(types.type(type_.link)) if function else [type_.link]
            for part in filter(None, parts):
                found |= self._text(types, part)[2]
        return frozenset(found)

    # -- one type --

    def _shape(self, types: Btf, type_: Type) -> Shape:
        if type_.kind in _ENUMERATIONS:
            rows = [Row(name, value, 0, "") for name, value in types.enumerators(type_)]
            return Shape(type_.link, tuple(rows), frozenset())
        if type_.kind == btf.TYPEDEF:
            if not type_.link:
                return Shape(0, (Row("", 0, 0, "void"),), frozenset())
            text, inside, needs = self._text(types, type_.link)
            return Shape(0, (Row("", 0, 0, text), *inside), needs)
        found: list[Row] = []
        needs_: set[Named] = set()
        self._members(types, type_, (found, needs_), 0, "", 0)
        return Shape(type_.link, tuple(found), frozenset(needs_))

    def _members(
        self,
        types: Btf,
        type_: Type,
        into: tuple[list[Row], set[Named]],
        start: int,
        path: str,
        depth: int,
    ) -> None:
        rows, needs = into
        for member in types.members(type_):
            inner = types.type(member.type)
            name, offset = path + member.name, start + member.bit_offset
            if inner.kind in _COMPOSITE and not inner.name and depth < _DEEPEST:
                rows.append(Row(name, offset, inner.link, f"{_COMPOSITE[inner.kind]} {{"))
                below = f"{name}." if member.name else path
                self._members(types, inner, into, offset, below, depth + 1)
                continue
            text, inside, more = self._text(types, member.type)
            rows.append(Row(name, offset, member.bits, text))
            rows += [row._replace(name=f"{name}.{row.name}") for row in inside]
            needs |= more
            if len(rows) > _MOST:  # it holds itself, twice: that would be 2**64 rows
                raise btf.damaged(types.name, "a type has no end")

    def _text(self, types: Btf, number: int) -> tuple[str, tuple[Row, ...], frozenset[Named]]:
        """A type as C says it, the members of what has no name in it, and the types it needs."""
        key = (id(types) if number >= self._types.count else 0, number)
        if key not in self._texts:
            self._texts[key] = ("", (), frozenset())  # for a type that leads to itself
            self._depth += 1
            if self._depth > _DEEPEST:
                raise btf.damaged(types.name, f"type {number} has no end")
            rows: list[Row] = []
            needs: set[Named] = set()
            for one, by_value in _reached(types, number, by_value=True):
                type_ = types.type(one)
                if type_.kind == btf.TYPEDEF:
                    needs.add(("typedef", type_.name))
                elif type_.kind in _ENUMERATIONS and type_.name:
                    needs.add(("enum", type_.name))
                elif type_.kind in _COMPOSITE and type_.name:
                    needs |= {(_COMPOSITE[type_.kind], type_.name)} if by_value else set()
                elif type_.kind in _COMPOSITE:
                    rows.append(Row("", 0, type_.link, f"{_COMPOSITE[type_.kind]} {{"))
                    self._members(types, type_, (rows, needs), 0, "", 1)
            self._depth -= 1
            text = types.declaration(number)
            self._texts[key] = (text, tuple(rows), frozenset(needs))
        return self._texts[key]


def _reached(types: Btf, number: int, *, by_value: bool) -> Iterator[tuple[int, bool]]:
    """Types on the way to named ones, and whether each is held by value."""
    types.unnamed(number)  # which raises where the way has no end
    waiting = [(number, by_value)]
    while waiting:
        one, held = waiting.pop()
        if not one:
            continue
        yield one, held
        type_ = types.type(one)
        if type_.kind != btf.TYPEDEF and type_.kind not in _COMPOSITE:
            below = held and type_.kind not in (btf.PTR, btf.FUNC_PROTO)
            waiting += [(other, below) for other in types.inner(type_)]


# -- what differs --


def _short(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= _WIDEST else words[: _WIDEST - 3] + "..."


def _change(row: Row, other: Row) -> str:
    label = f"member {row.name}" if row.name else "it"
    if row.type != other.type:
        was, now = _short(row.type), _short(other.type)
        if was == now:
            return f"{label} has another type"
        return f"{label}: {was} became {now}" if row.name else f"{was} became {now}"
    if row.bits != other.bits:
        return f"{label}: {row.bits or 'all'} bits became {other.bits or 'all'}"
    return f"{label} moved"


def _member(old: Shape, new: Shape) -> str:
    """The first member that differs, in words; '' where only the size does."""
    # of what has no name there may be several
    before, after = (
        {row.name: row for row in shape.rows if not row.name.endswith(".")} for shape in (old, new)
    )
    if len(old.rows) > 1:
        for rows in (before, after):
            rows.pop("", None)
    added = next((name for name in after if name not in before), "")
    for row in before.values():
        other = after.get(row.name)
        if other is None:
            return f"member {row.name} is gone"
        if other != row:
            text = _change(row, other)
            return text + (f", {added} is new" if added and text.endswith("moved") else "")
    if added:
        return f"member {added} is new"
    return "a member without a name" if old.rows != new.rows else ""


def _difference(named: Named, old: list[Shape], new: list[Shape]) -> str:
    """'' where both kernels have the same types of that name."""
    what = " ".join(named)
    if not old:
        return f"{what}: the BTF of the kernel it was built for does not tell it"
    if not new:
        return f"{what} is not in that kernel's BTF"
    if len(old) == len(new) and all(one in new for one in old):
        return ""
    if len(old) > 1 or len(new) > 1:
        return f"{what} changed: there are several of that name, and not the same ones"
    (before,), (after,) = old, new
    member = _member(before, after)
    if named[0] == "enum":
        member = member.replace("member", "enumerator").replace("moved", "has another value")
    if before.size != after.size:
        size = f"size {before.size} became {after.size}"
        return f"{what} changed: {size}" + (f" ({member})" if member else "")
    return f"{what} changed: {member or 'what it is made of'}"


def compare(old: Layouts, new: Layouts, wanted: Iterable[Named]) -> list[str]:
    """What differs of these types and of those that they hold, a line for each that does: first
    those in which nothing that they hold does."""
    waiting = list(wanted)
    seen, changed = set(waiting), {}
    while waiting:
        named = waiting.pop(0)
        before = old.shapes(named)
        text = _difference(named, before, new.shapes(named))
        holds = {one for shape in before for one in shape.needs}
        if text:
            changed[named] = (text, holds)
        waiting += sorted(holds - seen)
        seen |= holds
    return [
        text
        for outer in (False, True)
        for text, holds in changed.values()
        if bool(holds & changed.keys()) is outer
    ]
