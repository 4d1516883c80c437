# SPDX-License-Identifier: GPL-2.0-only
"""`kbridge symbol`: all that is known of one name: where it lies, who exports it, its C type.

Addresses are those that the image is linked for (slide 0).  Not for lists (symbols.py).
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from kbridge import btf, imports
from kbridge.btf import Btf
from kbridge.errors import KbridgeError, UsageError
from kbridge.inspect import kernel as kernels
from kbridge.kernels import headers
from kbridge.kernels import image as kernel_image
from kbridge.kernels.headers import Export
from kbridge.symbols import image as symbol_image
from kbridge.symbols import parts
from kbridge.symbols.table import AmbiguousSymbol, Symbol, SymbolTable, UnknownSymbol
from kbridge.verbs import symbols
from kbridge.vm import modules

_SHOWN = 20  # definitions of one name
_NEAR = 5


@dataclass(frozen=True)
class SymbolRequest:
    """`kernel`, `kdir`: the kernel to look in, None for the default one."""

    name: str
    kernel: str | None = None
    kdir: str | None = None
    json: bool = False


@dataclass(frozen=True)
class Definition:
    """One place where the kernel image defines the name; `linked`: the one that a kmod means."""

    address: str
    letter: str
    type: str
    section: str
    linked: bool


@dataclass(frozen=True)
class Found:
    """`type`: function, data or per-CPU; '' where definitions differ, or a module's is unknown.

    `exported`: None where there are no headers, which would tell.  `exporter`: vmlinux or a
    module, '' for none.  `crc`: as Module.symvers has it.  `declarations`: in C; several where
    the BTF has several of that name, and none where `untyped` says why.
    """

    name: str
    kernel: str
    build_id: str
    type: str
    definitions: Sequence[Definition]
    linkable: bool
    exported: bool | None
    exporter: str
    gpl_only: bool
    namespace: str
    crc: str | None
    declarations: Sequence[str]
    untyped: str


# -- what is known of the name --


def _near(name: str, table: SymbolTable, exports: Mapping[str, str]) -> list[str]:
    """Names that look like it, of the image and of what modules export; the nearest first."""
    others = SymbolTable([Symbol(0, "T", one) for one in exports], table.release, "", "")
    both = dict.fromkeys([*table.near(name, _NEAR), *others.near(name, _NEAR)])
    return difflib.get_close_matches(name, list(both), n=_NEAR, cutoff=0.6)


def _meant(name: str, table: SymbolTable, exports: Mapping[str, str]) -> tuple[Symbol | None, bool]:
    """The image's symbol that a kmod is linked against (None: a module's), and whether it can be.

    Raises UnknownSymbol.
    """
    try:
        return imports.resolve(name, table, exports), True
    except AmbiguousSymbol:
        return None, False
    except UnknownSymbol as problem:
        raise UnknownSymbol(name, _near(name, table, exports), table.release) from problem


def _declarations(types: Btf, name: str, kinds: Sequence[int], *, every: bool) -> list[str]:
    found = []
    for kind in kinds:
        first = types.find(name, kind)
        numbers = types.all_named(name, kind) if every and first else [first]
        found += [types.declaration(types.type(one).link, name) for one in numbers if one]
    return list(dict.fromkeys(found))


def _types(
    image: kernel_image.KernelImage, held: parts.Parts, exporter: str
) -> tuple[Btf | None, str]:
    """The BTF that knows the symbol, and why it would not: the kernel's, or of the module that
    exports it."""
    base = held.btf()
    if base is None:
        return None, "the kernel has no BTF"
    if exporter in ("", "vmlinux"):
        return base, "not in the kernel's BTF"
    try:
        file = modules.needed(image.modules, (exporter,))[-1]
    except (KbridgeError, IndexError):
        return None, f"the module {exporter}, whose BTF would tell, is not here"
    found = parts.of_module(modules.content(file), exporter, base)
    return found, f"not in {exporter}'s BTF"


def _of_image(
    image: kernel_image.KernelImage, kdir: str | None, name: str, table: SymbolTable
) -> Found:
    known = kernels.facts(None, kdir, image.release, "").exports if kdir else None
    exports = headers.of_modules(known or {})
    meant, linkable = _meant(name, table, exports)
    held = parts.cached(image.vmlinuz)
    type_of, own = symbols.typed(table), symbols.exported(known)
    candidates = table.find(name)
    definitions = [
        Definition(
            f"{one.address:#018x}",
            one.type,
            type_of(one),
            held.section_of(one.address),
            linkable and one == meant,
        )
        for one in candidates
    ]
    export: Export | None = (known or {}).get(name) if name in exports else None
    if not exports.get(name):
        export = next(filter(None, map(own, candidates)), None)
    exporter = export.module if export else ""
    kinds = {one.type for one in definitions}
    wanted = [btf.FUNC] if kinds == {"function"} else [btf.VAR]
    if len(kinds) != 1 or (linkable and meant is None):
        wanted = [btf.FUNC, btf.VAR]
    types, untyped = _types(image, held, exporter)
    several = len(definitions) > 1
    declared = _declarations(types, name, wanted, every=several) if types else []
    return Found(
        name=name,
        kernel=image.release,
        build_id=table.build_id,
        type=kinds.pop() if len(kinds) == 1 else "",
        definitions=definitions,
        linkable=linkable,
        exported=None if known is None else export is not None,
        exporter=exporter,
        gpl_only=bool(export and export.gpl_only),
        namespace=export.namespace if export else "",
        crc=f"{export.crc:#010x}" if export and export.crc else None,
        declarations=declared,
        untyped="" if declared else untyped,
    )


def find(name: str, kernel: str | None = None, kdir: str | None = None) -> Found:
    """Everything about the name.  Raises UnknownSymbol with near ones where there is none, and
    KbridgeError where there is no such kernel."""
    if not name:
        raise UsageError("an empty name", hint="name a symbol: kbridge symbol vfs_read")
    symbols.check(name)  # before an image is fetched
    image, folder = symbols.image_of(kernel, kdir)
    return _of_image(image, folder, name, symbol_image.cached(image.vmlinuz))


# -- how it is said --


def _export(found: Found) -> str:
    if found.exported is None:
        return "? (no kernel headers here, which would tell)"
    if not found.exported:
        return "no"
    how = "GPL-only" if found.gpl_only else "yes"
    how += f", name space {found.namespace}" if found.namespace else ""
    return f"{how}, by {found.exporter}"


def _linked(found: Found) -> str:
    several = len(found.definitions)
    if not found.linkable:
        return f"no kmod can be: ambiguous, {several} definitions"
    of_module = found.exporter not in ("", "vmlinux")
    if of_module and several:
        return f"a kmod means that of {found.exporter}, not the static one of the image"
    if of_module:
        return f"when the program is loaded: {found.exporter} moves with every load"
    return "a kmod means the global one" if several > 1 else ""


def _binding(letter: str) -> str:
    """Source: nm(1); scripts/kallsyms.c gives per-CPU variables A, whatever their binding."""
    if letter == "A":
        return "A"
    weak = letter in "wWvV"
    return f"{letter}, {'weak' if weak else 'global' if letter.isupper() else 'static'}"


def _places(found: Found) -> list[list[str]]:
    several = len(found.definitions) > 1
    rows = []
    for one in found.definitions[:_SHOWN]:
        section = one.section or "in no section"
        text = f"{one.address}  {one.type} ({_binding(one.letter)}), {section}"
        rows.append(["address", text + (", linked" if several and one.linked else "")])
    if len(found.definitions) > _SHOWN:
        rows.append(["", f"and {len(found.definitions) - _SHOWN} more (--json has all)"])
    return rows or [["address", f"none before {found.exporter} is loaded"]]


def text(found: Found) -> str:
    """For people: a row each."""
    rows = [["kernel", found.kernel], *_places(found), ["exported", _export(found)]]
    if found.crc:
        rows.append(["CRC", found.crc])
    if _linked(found):
        rows.append(["linked", _linked(found)])
    if len(found.definitions) > 1 and found.declarations:
        rows.append(["", "the BTF does not say whose this is:"])
    rows += [["C", one + ";"] for one in found.declarations]
    if found.untyped:
        rows.append(["C", found.untyped])
    whole = "\n".join([found.name, *(f"  {key:<9} {value}" for key, value in rows)]) + "\n"
    # names of a damaged file may hold anything, and a terminal obeys some of it
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in whole)


def symbol(request: SymbolRequest) -> str:
    """What the command prints.  Raises what find() raises."""
    found = find(request.name, request.kernel, request.kdir)
    return json.dumps(asdict(found), indent=2) + "\n" if request.json else text(found)
