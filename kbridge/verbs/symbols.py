# SPDX-License-Identifier: GPL-2.0-only
"""`kbridge symbols`: the symbols of a kernel image, for people, as kallsyms or as JSON.

Addresses are those that the image is linked for (slide 0).  Not for symbols of modules, which
move with every load.
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from kbridge.errors import KbridgeError, UsageError
from kbridge.inspect import kernel as kernels
from kbridge.inspect.kernel import Kernel
from kbridge.kernels import image as kernel_image
from kbridge.kernels import target as targets
from kbridge.kernels.headers import Export
from kbridge.symbols import image as symbol_image
from kbridge.symbols.table import (
    LINKER_ALIASES,
    LONGEST_NAME,
    AmbiguousSymbol,
    Symbol,
    SymbolTable,
    UnknownSymbol,
)

_WILDCARDS = re.compile(r"[*?[\]]+")
_ALL = "kbridge symbols --all lists them; a kmod cannot be linked against these"


@dataclass(frozen=True)
class SymbolsRequest:
    """`pattern`: a name or a shell pattern, None for every symbol.  `all`: also those that no
    kmod can be linked against.  `format`: one of options.SYMBOL_FORMATS."""

    pattern: str | None = None
    kernel: str | None = None
    kdir: str | None = None
    all: bool = False
    format: str = "table"


# -- which symbols --


def check(pattern: str) -> None:
    """Raise UsageError for what can be no name or pattern of names."""
    if not pattern:
        raise UsageError("an empty pattern", hint="leave it out to see every symbol")
    if not re.fullmatch("[!-~]+", pattern):
        raise UsageError(
            f"{pattern!r}: no kernel symbol has such characters",
            hint="names are printable ASCII without spaces; quote a pattern: 'vfs_*'",
        )
    if len(pattern) > LONGEST_NAME:
        raise UsageError(
            f"a pattern of {len(pattern)} characters",
            hint=f"the longest name of a kernel symbol has {LONGEST_NAME}",
        )


def _is_wild(pattern: str) -> bool:
    return bool(set(pattern) & set("*?["))


def _exactly(table: SymbolTable, name: str, *, every: bool) -> list[Symbol]:
    if not every:
        try:
            return [table.resolve(name)]
        except AmbiguousSymbol as problem:
            raise KbridgeError(problem.message, hint=_ALL) from problem
    found = table.find(name)
    if not found:
        raise UnknownSymbol(name, table.near(name), table.release)
    return found


def select(table: SymbolTable, pattern: str | None, *, every: bool) -> list[Symbol]:
    """The symbols that match, in the order of their addresses; at least one.

    `every`: every line of the table, else one for each name that a kmod can be linked against.
    Raises KbridgeError with near names when nothing matches, UsageError for what is no pattern.
    """
    if pattern is not None:
        check(pattern)
        if not _is_wild(pattern):
            return _exactly(table, pattern, every=every)
    symbols = list(table.symbols) if every else sorted(table.resolvable(), key=_address)
    if pattern is None:
        return symbols
    matches = re.compile(fnmatch.translate(pattern)).match
    found = [symbol for symbol in symbols if matches(symbol.name)]
    if found:
        return found
    ambiguous = 0 if every else sum(bool(matches(symbol.name)) for symbol in table.symbols)
    if ambiguous:
        raise KbridgeError(
            f"kernel {table.release}: {ambiguous} symbols match {pattern}, and none of their "
            "names has one meaning",
            hint=_ALL,
        )
    near = table.near(_WILDCARDS.sub("", pattern))
    raise KbridgeError(
        f"kernel {table.release} has no symbol that matches {pattern}",
        hint=f"near: {', '.join(near)}" if near else "patterns match whole names: '*pattern*'",
    )


def _address(symbol: Symbol) -> int:
    return symbol.address


# -- what is said of them --


def typed(table: SymbolTable) -> Callable[[Symbol], str]:
    """Tells functions, per-CPU variables and data, as Kernel.is_percpu() does for one symbol."""
    bounds = [table.find(name) for name in ("__per_cpu_start", "__per_cpu_end")]
    known = all(bounds)
    start, end = (one[0].address for one in bounds) if known else (0, 0)

    def type_of(symbol: Symbol) -> str:
        if symbol.is_function:
            return "function"
        percpu = start <= symbol.address < end if known else symbol.type == "A"
        return "per-CPU" if percpu else "data"

    return type_of


def exported(exports: dict[str, Export] | None) -> Callable[[Symbol], Export | None]:
    """Finds the kernel image's export of a symbol, not that of a static one of the same name."""
    own = {name: one for name, one in (exports or {}).items() if one.module == "vmlinux"}
    for alias, name in LINKER_ALIASES.items():
        if name in own:
            own.setdefault(alias, own[name])

    def export_of(symbol: Symbol) -> Export | None:
        return None if symbol.type.islower() else own.get(symbol.name)

    return export_of


def kallsyms(symbols: Iterable[Symbol]) -> str:
    """As /proc/kallsyms has them.  Source: s_show() in the kernel's kernel/kallsyms.c."""
    return "".join([f"{address:016x} {letter} {name}\n" for address, letter, name in symbols])


def text(symbols: Iterable[Symbol], kernel: Kernel, table: SymbolTable) -> str:
    """A line each: address, letter, type, export ('-' for none, '?' where unknown), name."""
    type_of, export_of = typed(table), exported(kernel.exports)
    none = "?" if kernel.exports is None else "-"
    lines = []
    for symbol in symbols:
        export = export_of(symbol)
        how = none if export is None else "GPL-only" if export.gpl_only else "exported"
        address, letter, name = symbol
        lines.append(f"{address:016x} {letter} {type_of(symbol):8}  {how:8}  {name}\n")
    return "".join(lines)


def as_json(symbols: Iterable[Symbol], kernel: Kernel, table: SymbolTable) -> str:
    """A list of objects, one a line.  Addresses are strings: JSON's numbers have 53 bits."""
    type_of, export_of = typed(table), exported(kernel.exports)
    linkable = set(table.resolvable())
    encode = json.JSONEncoder().encode
    rows = []
    for symbol in symbols:
        export = export_of(symbol)
        row = {
            "name": symbol.name,
            "address": f"0x{symbol.address:016x}",
            "letter": symbol.type,
            "type": type_of(symbol),
            "exported": None if kernel.exports is None else export is not None,
            "gpl_only": bool(export and export.gpl_only),
            "namespace": export.namespace if export else "",
            "linkable": symbol in linkable,
        }
        rows.append(encode(row))
    return "[\n" + ",\n".join(rows) + "\n]\n"


def image_of(kernel: str | None, kdir: str | None) -> tuple[kernel_image.KernelImage, str | None]:
    """The kernel's image, fetched where need be, and its header folder, if there is one."""
    try:
        target = targets.find(kernel, kdir)
    except UsageError:
        if not kernel or kdir:
            raise
        try:  # without headers, an image that is here is enough
            return kernel_image.find(kernel, download=False), None
        except KbridgeError:
            pass
        raise
    return kernel_image.find(target.release), str(target.kdir)


def symbols(request: SymbolsRequest) -> str:
    """What the command prints.  Raises KbridgeError where there is no kernel, or no symbol."""
    if request.pattern is not None:
        check(request.pattern)  # before an image is fetched
    image, kdir = image_of(request.kernel, request.kdir)
    table = symbol_image.cached(image.vmlinuz)
    found = select(table, request.pattern, every=request.all)
    if request.format == "kallsyms":
        return kallsyms(found)
    kernel = kernels.facts(None, kdir, image.release, "") if kdir else Kernel(image.release)
    write = as_json if request.format == "json" else text
    return write(found, kernel, table)
