# SPDX-License-Identifier: GPL-2.0-only
"""Opens what `kbridge inspect` is given, and says what it is when it is no ELF file of ours.

Packed modules (.ko.xz and the like) are unpacked; everything else is read where it lies.
"""

from __future__ import annotations

import io
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from elftools.elf.elffile import ELFFile

from kbridge.errors import KbridgeError, UsageError
from kbridge.vm import modules

_ELF = b"\x7fELF"
_PACKED = (".xz", ".gz", ".zst")
_LOOKS = {
    b"!<arch>\n": ("an archive of objects", "unpack it, and inspect each: ar x {path}"),
    b"!<thin>\n": ("a thin archive of objects", "inspect the objects that it names: ar t {path}"),
    b"#!": ("a script", "inspect the program that it starts"),
    b"MZ": (
        "a boot image (or a program for another system)",
        "inspect programs, objects and modules; kbridge reads kernel images by itself",
    ),
}
_KINDS = {"ET_REL", "ET_EXEC", "ET_DYN"}
_MACHINE = "EM_X86_64"


def _open(path: Path) -> BinaryIO:
    try:
        kind = path.stat().st_mode
        if stat.S_ISDIR(kind):
            raise UsageError(f"{path}: is a folder", hint="name a program, object or module in it")
        if not stat.S_ISREG(kind):
            raise UsageError(f"{path}: a device or pipe, no file", hint="name a file")
        return path.open("rb")
    except OSError as problem:
        if isinstance(problem, FileNotFoundError | NotADirectoryError):
            raise UsageError(f"{path}: no such file", hint="check the path") from problem
        raise KbridgeError(
            f"cannot read {path}: {problem.strerror}", hint="make it readable"
        ) from problem
    except ValueError as problem:  # a NUL in the name
        raise UsageError(f"{str(path)!r}: not a file name", hint="check the path") from problem


def _not_elf(path: Path, start: bytes) -> KbridgeError:
    for magic, (what, hint) in _LOOKS.items():
        if start.startswith(magic):
            return KbridgeError(f"{path}: {what}, not an ELF file", hint=hint.format(path=path))
    what = "not an ELF file" if start else "an empty file"
    return KbridgeError(
        f"{path}: {what}", hint="inspect a linked program or library, an object (.o) or a .ko"
    )


def _check(path: Path, elf: Any) -> None:
    """Raise KbridgeError for an ELF file that holds no x86-64 code to look at."""
    machine, kind = str(elf["e_machine"]), str(elf["e_type"])
    if kind == "ET_CORE":
        raise KbridgeError(
            f"{path}: a core file", hint="inspect the program that left it: file(1) names it"
        )
    if machine != _MACHINE or elf.elfclass != 64:
        raise KbridgeError(
            f"{path}: an ELF file for {machine.removeprefix('EM_')}, {elf.elfclass} bit",
            hint="kbridge inspects 64-bit x86-64 files",
        )
    if kind not in _KINDS or not elf.little_endian:
        raise KbridgeError(
            f"{path}: an ELF file of type {kind}", hint="build it again: it is no program or object"
        )


def damaged(path: Path, what: object) -> KbridgeError:
    return KbridgeError(f"{path}: a damaged ELF file ({what})", hint="build or copy it again")


def _check_sections(path: Path, elf: Any, size: int) -> None:
    """Nothing may lie outside the file: a wrong size would have us read for hours."""
    count = elf.num_sections()
    if count * 64 > size:
        raise damaged(path, f"{count} sections do not fit in {size} bytes")
    for section in elf.iter_sections():
        here = section["sh_type"] not in ("SHT_NOBITS", "SHT_NULL")
        if here and section["sh_offset"] + section["sh_size"] > size:
            raise damaged(path, f"section {section.name} ends behind the file's end")
    for segment in elf.iter_segments():
        if segment["p_offset"] + segment["p_filesz"] > size and segment["p_type"] == "PT_LOAD":
            raise damaged(path, "a segment ends behind the file's end")


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The file as an ELFFile.

    Raises UsageError for what cannot be opened, KbridgeError for what is no x86-64 ELF file.
    """
    with _open(path) as stream:
        start = stream.read(8)
        source: BinaryIO = stream
        if not start.startswith(_ELF) and path.suffix in _PACKED:
            source = io.BytesIO(modules.content(path))
            start = source.read(8)
        if not start.startswith(_ELF):
            raise _not_elf(path, start)
        try:
            size = source.seek(0, io.SEEK_END)
            elf = ELFFile(source)
            _check(path, elf)
            _check_sections(path, elf, size)
        except KbridgeError:
            raise
        except Exception as problem:  # pyelftools raises whatever a damaged header leads it to
            raise damaged(path, problem or type(problem).__name__) from problem
        yield elf
