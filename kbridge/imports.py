# SPDX-License-Identifier: GPL-2.0-only
"""Finds what the kernel names of an image stand for: a symbol of the image, or of a module.

A name has to have one meaning.  What the kernel image defines globally is meant; else what a
module exports; else the one static symbol of that name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kbridge import pack
from kbridge.errors import KbridgeError
from kbridge.symbols.table import AmbiguousSymbol, Symbol, SymbolTable, UnknownSymbol


@dataclass
class Bound:
    """By name: the address at slide 0 (0: only known at run time), whether it is a function, and
    for names of modules the module.  `chosen`: names of several symbols, of which a person chose
    one, so that libkernel.so does not have them."""

    addresses: dict[str, int] = field(default_factory=dict)
    functions: dict[str, bool] = field(default_factory=dict)
    modules: dict[str, str] = field(default_factory=dict)
    chosen: set[str] = field(default_factory=set)


def resolve(name: str, table: SymbolTable, exports: Mapping[str, str]) -> Symbol | None:
    """The kernel image's symbol, None where a module's is meant.

    Raises UnknownSymbol, AmbiguousSymbol.
    """
    if name in table.choices:
        return table.choices[name]
    if name in exports and not table.find(name):
        return None  # without the search for names that look like it
    try:
        symbol = table.resolve(name)
    except AmbiguousSymbol:
        if name in exports:
            return None
        raise
    # static in the kernel image, exported by a module: a module's source means the latter
    return None if symbol.type.islower() and name in exports else symbol


def bind(image: pack.Image, table: SymbolTable, exports: Mapping[str, str], object_: Path) -> Bound:
    """Bind every import.  Raises KbridgeError that names the source line of one that has no
    meaning, or several; `exports` are the symbols that modules export, `object_` what was packed.
    """
    bound = Bound()
    for entry in image.imports:
        try:
            symbol = resolve(entry.name, table, exports)
        except (UnknownSymbol, AmbiguousSymbol) as problem:
            if entry.weak and isinstance(problem, UnknownSymbol):
                bound.addresses[entry.name], bound.functions[entry.name] = 0, False
                continue
            where = _locate(object_, entry)
            raise KbridgeError(f"{where}: {problem.message}", hint=problem.hint) from problem
        bound.addresses[entry.name] = symbol.address if symbol else 0
        bound.functions[entry.name] = symbol.is_function if symbol else True
        if symbol is None and not entry.weak:
            bound.modules[entry.name] = exports[entry.name]
        if entry.name in table.choices:
            bound.chosen.add(entry.name)
    return bound


def _locate(object_: Path, entry: pack.Import) -> str:
    from kbridge import lines

    return lines.locate(object_, entry.section, entry.offset)
