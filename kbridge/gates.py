# SPDX-License-Identifier: GPL-2.0-only
"""Writes a packed image as one assembly file: image, import words, records, and the gates.

What ld and ld.so must not touch goes into a binary file that the assembly includes; the rest is
templates/gates.S.j2.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path

from kbridge import callbacks, paths, templates
from kbridge.libkernel import VERSION
from kbridge.pack import Image

# kernel/kelevate/kelevate.h
_ABI = 6
_CALL = 3
_DONE = 0x6B622121
_NAME_SIZE = 48
_CALLED_BACK, _LINKED = 1, 2


@dataclass(frozen=True)
class Part:
    """A run of the binary file."""

    name: str
    offset: int
    size: int


@dataclass(frozen=True)
class Parts:
    image: Part
    info: list[Part]
    map: Part
    interface: Part


@dataclass(frozen=True)
class Binding:
    """The kernel that the image is for, and how its kernel names are bound.

    `text_base` 0: by ld.so, through libkernel.so.  Else by a linker script with the addresses
    of the kernel image, in which `text_base` is that of _text: it tells the slide at run time.
    `interface`: what of the kernel the image uses, as abi.encode() packs it, and its digest.
    """

    release: str
    build_id: str
    text_base: int = 0
    modules: Mapping[str, str] = field(default_factory=dict)  # of the names that modules export
    from_text: Mapping[str, int] = field(default_factory=dict)  # bytes, of chosen symbols
    zero: Set[str] = frozenset()  # names whose address is rightly 0: weak, or per-CPU offset 0
    interface: bytes = b""
    interface_digest: str = ""


def _strings(names: list[str]) -> tuple[bytes, list[int]]:
    blob, offsets = bytearray(b"\0"), []
    for name in names:
        offsets.append(len(blob))
        blob += name.encode() + b"\0"
    return bytes(blob), offsets


def _symbols(image: Image, offsets: list[int]) -> bytes:
    """struct elf64_sym[], local functions of section 1, the null symbol first."""
    rows = [bytes(24)]
    for (_, value, size), name in zip(image.functions, offsets, strict=True):
        rows.append(struct.pack("<IBBHQQ", name, 2, 0, 1, value, size))
    return b"".join(rows)


def _import_names(image: Image, binding: Binding) -> bytes:
    """NUL-terminated: NAME, NAME [MODULE], or ?NAME (may be 0)."""
    names = bytearray()
    for entry in image.imports:
        module = binding.modules.get(entry.name)
        mark = "?" if entry.name in binding.zero else ""
        names += f"{mark}{entry.name}{f' [{module}]' if module else ''}\0".encode()
    return bytes(names)


def _layout(image: Image, binding: Binding) -> tuple[bytes, Parts]:
    strings, offsets = _strings([name for name, _, _ in image.functions])
    records = b"".join(
        struct.pack("<QQq", record.offset, record.symbol << 32 | record.type, record.addend)
        for record in image.records
    )
    blobs = {
        "records": records,
        "gates": b"".join(struct.pack("<II", g.offset, g.stack_words) for g in image.gates),
        "tables": b"".join(struct.pack("<II", *table) for table in image.tables),
        "symbols": _symbols(image, offsets),
        "strings": strings,
        "import_names": _import_names(image, binding),
    }
    binary = bytearray(image.content)
    info = []
    for name, blob in blobs.items():
        info.append(Part(name, len(binary), len(blob)))
        binary += blob
    places = "".join(f"{p.kind} {p.offset:x} {p.size:x} {p.name}\0" for p in image.places).encode()
    map_ = Part("map", len(binary), len(places))
    binary += places
    interface = Part("interface", len(binary), len(binding.interface))
    binary += binding.interface
    return bytes(binary), Parts(Part("image", 0, image.end), info, map_, interface)


def _flags(image: Image, binding: Binding) -> int:
    called_back = _CALLED_BACK if callbacks.possible(image) else 0
    return called_back | (_LINKED if binding.text_base else 0)


def _quoted(path: Path) -> str:
    """As a string of GNU as."""
    return str(path).replace("\\", "\\\\").replace('"', '\\"')


def write(
    image: Image,
    name: str,
    binding: Binding,
    output: Path,
    lines: Mapping[str, tuple[Path, int]] | None = None,
) -> None:
    """Write `output` (assembly) and `output`.bin beside it, which it includes.

    `name` is a C identifier; it is what the kernel log calls the image.  `lines`: where the gates'
    functions are in their sources, for debuggers of the app.
    """
    named = {one: (_quoted(file), line) for one, (file, line) in (lines or {}).items()}
    binary, parts = _layout(image, binding)
    sizes = {part.name: part.size for part in parts.info}
    included = output.with_name(output.name + ".bin")
    text = templates.filled(
        "gates.S.j2",
        name=name[: _NAME_SIZE - 1],
        binary=_quoted(included.absolute()),
        parts=parts,
        release=binding.release,
        build_id=binding.build_id,
        interface_digest=binding.interface_digest,
        version=VERSION,
        versioned=not binding.text_base,
        imports=[entry.name for entry in image.imports],
        from_text=binding.from_text,
        gates=image.gates,
        lines=named,
        files=sorted({file for file, _ in named.values()}),
        abi=_ABI,
        call=_CALL,
        done=_DONE,
        text_base=binding.text_base,
        text_end=image.text_end,
        rodata_end=image.rodata_end,
        end=image.end,
        modules=sorted(set(binding.modules.values())),
        nimports=len(image.imports),
        import_names_size=sizes["import_names"],
        nrecords=len(image.records),
        nsymbols=len(image.functions) + 1,
        strings_size=sizes["strings"],
        percpu=image.percpu,
        percpu_align=image.percpu_align,
        flags=_flags(image, binding),
        init=0 if image.init is None else image.init + 1,
        exit=0 if image.exit is None else image.exit + 1,
    )
    paths.write_atomically(included, binary)
    paths.write_atomically(output, text)


def assemble_command(assembly: Path, output: Path) -> list[str]:
    """The command that assembles what write() wrote."""
    return ["as", "-o", str(output), str(assembly)]
