# SPDX-License-Identifier: GPL-2.0-only
"""What else a kernel image says of its interface: sections, CRCs of exported symbols, and BTF.

Not for its symbols (image.py), nor for what the BTF says (btf.py).
"""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from kbridge import btf, log, paths
from kbridge.btf import Btf
from kbridge.errors import KbridgeError
from kbridge.symbols import image
from kbridge.symbols.table import LONGEST_NAME

_MAGIC = b"kbridge parts 2\n"  # to be raised with every change of the form


class Section(NamedTuple):
    """A section of the image that is in memory, at the address that it is linked for."""

    name: str
    address: int
    size: int


@dataclass(frozen=True)
class Parts:
    """`crcs`: of the symbols that the image exports; empty where it has none (MODVERSIONS off).
    `types`: the bytes of its BTF, which btf.check() has seen; empty without.  `orc`: a digest of
    the form of unwind data, since v6.4; '' without."""

    origin: str
    sections: Sequence[Section] = ()
    crcs: Mapping[str, int] = field(default_factory=dict)
    types: bytes = b""
    orc: str = ""

    def section_of(self, address: int) -> str:
        """The section that holds the address; '' for none, as behind the last one's end."""
        inside = [one.name for one in self.sections if 0 <= address - one.address < one.size]
        return inside[0] if inside else ""

    def btf(self) -> Btf | None:
        """The kernel's types; None for a kernel without BTF."""
        return Btf(self.types, self.origin) if self.types else None


def _name_at(content: bytes, start: int, address: int) -> str:
    at = address - start
    end = content.find(b"\0", at, at + LONGEST_NAME + 1) if at >= 0 else -1
    return content[at:end].decode("ascii", "replace") if end > 0 else ""


def _crcs(held: Mapping[str, tuple[int, bytes]]) -> dict[str, int]:
    """CRC of each exported symbol.

    Source: struct kernel_symbol in the kernel's include/linux/export-internal.h (export.h before
    6.4), with HAVE_ARCH_PREL32_RELOCATIONS: offsets of the value, the name and the name space;
    __kcrctab has a CRC for each, in the same order.
    """
    found: dict[str, int] = {}
    strings_at, strings = held.get("__ksymtab_strings", (0, b""))
    for suffix in ("", "_gpl"):
        at, table = held.get(f"__ksymtab{suffix}", (0, b""))
        _, crcs = held.get(f"__kcrctab{suffix}", (0, b""))
        if len(table) % 12 or len(table) // 12 != len(crcs) // 4:
            return {}
        entries = struct.iter_unpack("<4xi4x", table)
        for row, ((offset,), (crc,)) in enumerate(
            zip(entries, struct.iter_unpack("<I", crcs), strict=True)
        ):
            name = _name_at(strings, strings_at, at + 12 * row + 4 + offset)
            if name:
                found[name] = crc
    return found


def _held(elf: Any) -> tuple[list[Section], dict[str, tuple[int, bytes]]]:
    # .orc_header: since Linux commit b9f174c811e3 ("x86/unwind/orc: Add ELF section with ORC
    # version identifier", v6.4)
    wanted = (".BTF", ".orc_header")
    prefixes = ("__ksymtab", "__kcrctab")
    sections, contents = [], {}
    for one in elf.iter_sections():
        if not one["sh_flags"] & 2 or not one["sh_size"]:  # SHF_ALLOC
            continue
        sections.append(Section(one.name, one["sh_addr"], one["sh_size"]))
        if one.name in wanted or one.name.startswith(prefixes):
            contents[one.name] = (one["sh_addr"], one.data())
    return sections, contents


def read(path: Path) -> Parts:
    """Sections, CRCs and BTF of the image at `path`.  Raises KbridgeError where it is damaged."""
    from elftools.elf.elffile import ELFFile

    content = image.unpacked(path)
    try:
        sections, contents = _held(ELFFile(io.BytesIO(content)))
        crcs = _crcs(contents)
    except Exception as problem:  # pyelftools raises whatever a damaged header leads it to
        raise KbridgeError(f"{path}: damaged ELF sections ({problem})") from problem
    types = contents.get(".BTF", (0, b""))[1]
    if types:
        btf.check(types, str(path))
    return Parts(str(path), sections, crcs, types, contents.get(".orc_header", (0, b""))[1].hex())


def of_module(content: bytes, name: str, base: Btf) -> Btf | None:
    """The types of a module, of which `content` is the .ko; None for a module without BTF."""
    from elftools.elf.elffile import ELFFile

    try:
        section: Any = ELFFile(io.BytesIO(content)).get_section_by_name(".BTF")
        types = section.data() if section else b""
    except Exception as problem:  # as in read()
        raise KbridgeError(f"{name}: damaged ELF sections ({problem})") from problem
    if not types:
        return None
    btf.check(types, name, (base.count, base.strings))
    return Btf(types, name, base)


def _dump(parts: Parts) -> bytes:
    header = json.dumps(
        {
            "origin": parts.origin,
            "sections": parts.sections,
            "crcs": dict(parts.crcs),
            "orc": parts.orc,
        }
    ).encode()
    content = header + b"\n" + parts.types
    return _MAGIC + b"%08x\n" % zlib.crc32(content) + content


def _load(data: bytes) -> Parts | None:
    start = len(_MAGIC) + 9
    content = memoryview(data)[start:]
    if data[:start] != _MAGIC + b"%08x\n" % zlib.crc32(content):
        return None
    end = data.find(b"\n", start)
    try:
        header = json.loads(data[start:end])
        sections = [Section(*one) for one in header["sections"]]
        held = (header["origin"], sections, header["crcs"], data[end + 1 :], header["orc"])
        return Parts(*held)
    except (ValueError, KeyError, TypeError):
        return None


def cached(path: Path) -> Parts:
    """As `read`, kept in the user's cache until the image changes."""
    kept = paths.cache("parts") / image.identity(path)
    try:
        parts = _load(kept.read_bytes())
    except OSError:
        parts = None
    if parts is not None:
        return parts
    log.detail(f"reading the sections and types of {path}")
    parts = read(path)
    paths.write_atomically(kept, _dump(parts))
    return parts
