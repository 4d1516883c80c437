# SPDX-License-Identifier: GPL-2.0-only
"""What the benchmark works on: a stock kernel's files, and generated symbols.

Nothing of this is timed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kbridge import libkernel
from kbridge.kernels import headers, target
from kbridge.kernels import image as images
from kbridge.symbols import image as symbol_image
from kbridge.symbols.table import Columns, SymbolTable

# Source: the magic numbers in the kernel's lib/decompress.c.
_PACKERS = {
    b"\x02\x21": "LZ4",
    b"\x28\xb5": "zstd",
    b"\x1f\x8b": "gzip",
    b"\xfd\x37": "xz",
    b"\x5d\x00": "lzma",
    b"\x42\x5a": "bzip2",
    b"\x89\x4c": "LZO",
}
_PAYLOAD = 0x248  # payload_offset of the setup header (Documentation/arch/x86/boot.rst)
_FIRST = 0xFFFFFFFF81000000  # of generated symbols
_STEP = 64  # bytes between them


@dataclass(frozen=True)
class Kernel:
    """A stock kernel.  `text` is its kallsyms, `vmlinux` its image, unpacked, `names` some that it
    exports, spread over the alphabet."""

    release: str
    vmlinuz: Path
    packer: str
    vmlinux: Path
    text: Path
    lines: int
    symbols: Columns  # those that have one meaning: what is in the library
    build_id: str
    names: Sequence[str]


def _packer(vmlinuz: Path) -> str:
    content = vmlinuz.read_bytes()
    offset = int.from_bytes(content[_PAYLOAD : _PAYLOAD + 4], "little")
    start = ((content[0x1F1] or 4) + 1) * 512 + offset
    return _PACKERS.get(content[start : start + 2], "unknown")


def _kallsyms(symbols: Columns) -> str:
    rows = zip(symbols.addresses, symbols.types, symbols.names, strict=True)
    return "".join(f"{address:016x} {letter} {name}\n" for address, letter, name in rows)


def _spread(names: Sequence[str], count: int) -> list[str]:
    ordered = sorted(names)
    return [ordered[i * len(ordered) // count] for i in range(count)]


def _exported(release: str, table: SymbolTable, count: int) -> list[str]:
    """Names of functions that the kernel itself exports; without those that gcc knows."""
    exports = headers.exports_in(target.find(release).kdir / "Module.symvers")
    functions = {one.name for one in table.resolvable() if one.is_function}
    known = {"memchr", "memcmp", "memcpy", "memmove", "memset"}
    own = {name for name, one in exports.items() if one.module == "vmlinux"}
    usual = (own & functions) - known
    return _spread([name for name in usual if not name.startswith(("__", "str"))], count)


def kernel(release: str, folder: Path, names: int) -> Kernel:
    """The files of that kernel, in `folder`; `names`: how many of its names are wanted."""
    folder.mkdir(parents=True)
    table = images.symbols(release)
    vmlinuz = images.find(release).vmlinuz
    text, vmlinux = folder / "kallsyms", folder / "vmlinux"
    all_ = Columns.of(table.symbols)
    text.write_text(_kallsyms(all_))
    vmlinux.write_bytes(symbol_image.unpacked(vmlinuz))
    return Kernel(
        release=release,
        vmlinuz=vmlinuz,
        packer=_packer(vmlinuz),
        vmlinux=vmlinux,
        text=text,
        lines=len(all_),
        symbols=table.resolvable(),
        build_id=table.build_id,
        names=_exported(release, table, names),
    )


def generated(count: int, folder: Path) -> Path:
    """Text of kallsyms' form with that many symbols, every name another and some 20 letters long,
    as a kernel's are."""
    rows = (
        f"{_FIRST + _STEP * i:016x} {'tTdDbB'[i % 6]} generated_{i * 7919 % count:07d}_name\n"
        for i in range(count)
    )
    path = folder / f"generated-{count}"
    path.write_text("".join(rows))
    return path


def assembly(symbols: Columns, path: Path) -> Path:
    """The symbols as the assembler takes them."""
    with path.open("w") as stream:
        rows = zip(symbols.names, symbols.addresses, symbols.are_functions(), strict=True)
        for name, address, function in rows:
            kind = "function" if function else "object"
            stream.write(f".globl {name}\n.type {name},@{kind}\n.set {name},{address:#x}\n")
    return path


def version_script(path: Path) -> Path:
    path.write_text(f"{libkernel.VERSION} {{ global: *; }};\n")
    return path
