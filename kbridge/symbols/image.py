# SPDX-License-Identifier: GPL-2.0-only
"""Reads a kernel's symbols, release and build ID out of its image, vmlinuz or vmlinux.

Not for finding or fetching the image (kernels/image.py).
"""

from __future__ import annotations

import hashlib
import io
import re
from dataclasses import dataclass
from pathlib import Path

from kbridge import log, paths, progress
from kbridge.errors import KbridgeError
from kbridge.symbols import notes, store, tables
from kbridge.symbols.table import SymbolTable
from kbridge.symbols.unpack import unpack

_ELF = b"\x7fELF"

# Source: linux_banner in init/version-timestamp.c (init/version.c before 6.2).
_BANNER = re.compile(rb"Linux version (\d[!-~]*) \(")


@dataclass(frozen=True)
class _Headers:
    segments: list[tables.Segment]
    build_id: str


def _headers(image: bytes, name: str) -> _Headers:
    from elftools.elf.elffile import ELFFile

    try:
        elf = ELFFile(io.BytesIO(image))
        machine = elf["e_machine"]
        program_headers = list(elf.iter_segments())
        segments = [
            tables.Segment(one["p_vaddr"], one["p_memsz"], one["p_offset"], one["p_filesz"])
            for one in program_headers
            if one["p_type"] == "PT_LOAD"
        ]
        moved = [
            one["p_vaddr"]
            for one in program_headers
            if one["p_type"] == "PT_LOAD"
            and one["p_vaddr"] >= tables.KERNEL_BASE != one["p_vaddr"] - one["p_paddr"]
        ]
        ids = [notes.build_id(one.data()) for one in program_headers if one["p_type"] == "PT_NOTE"]
    except Exception as problem:  # pyelftools raises whatever a damaged header leads it to
        raise KbridgeError(f"{name}: damaged ELF headers ({problem})") from problem
    if machine != "EM_X86_64":
        raise KbridgeError(
            f"{name}: a {machine} image", hint="kbridge supports x86-64 (EM_X86_64) kernels"
        )
    # Source: LOAD_OFFSET in arch/x86/kernel/vmlinux.lds.S.
    if moved:
        raise KbridgeError(
            f"{name}: damaged ELF headers (the segment at {moved[0]:#x} belongs elsewhere)"
        )
    return _Headers(segments, next(filter(None, ids), ""))


def _release(image: bytes, name: str) -> str:
    found = _BANNER.search(image)
    if not found:
        raise KbridgeError(f"{name}: no 'Linux version' in it, so not a kernel")
    return found[1].decode("ascii")


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as problem:
        hint = "as root, or make it readable" if isinstance(problem, PermissionError) else None
        raise KbridgeError(
            f"cannot read the kernel image {path}: {problem.strerror}", hint=hint
        ) from problem


def unpacked(path: Path) -> bytes:
    """The image at `path` as an ELF file: unpacked, if it is packed."""
    content = _content(path)
    return content if content.startswith(_ELF) else unpack(content, str(path))


def read(path: Path) -> SymbolTable:
    """The symbols in the image at `path`, at the addresses that it is linked for (slide 0).

    Raises KbridgeError when the file is no x86-64 kernel image with kallsyms tables.
    """
    image = unpacked(path)
    headers = _headers(image, str(path))
    release = _release(image, str(path))
    symbols = tables.decode(image, headers.segments, str(path))
    return SymbolTable(symbols, release, headers.build_id, str(path))


def identity(path: Path) -> str:
    """A hex key that changes with the image: of its path, size and time of change."""
    try:
        status = path.stat()
    except OSError as problem:
        raise KbridgeError(f"cannot read the kernel image {path}: {problem.strerror}") from problem
    key = f"{path.resolve()}\0{status.st_size}\0{status.st_mtime_ns}"
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def _cache_file(path: Path) -> Path:
    return paths.cache("symbols") / identity(path)


def is_cached(path: Path) -> bool:
    """Whether `cached` would find the image's symbols in the cache."""
    return paths.cache_place("symbols", identity(path)).is_file()


def cached(path: Path) -> SymbolTable:
    """As `read`, kept in the user's cache by the image's path, size and time of change."""
    kept = _cache_file(path)
    table = _kept(kept)
    if table is not None:
        return table
    with progress.doing(f"reading the symbols of {path.name}"), paths.alone(kept.parent):
        table = _kept(kept)  # by another kbridge, meanwhile
        if table is None:
            log.detail(f"reading the symbols of {path}")
            table = read(path)
            paths.write_atomically(kept, store.dump(table))
    return table


def _kept(kept: Path) -> SymbolTable | None:
    try:
        return store.load(kept.read_bytes())
    except OSError:
        return None
