# SPDX-License-Identifier: GPL-2.0-only
"""Symbols of a file that somebody names, whatever kind it is: told by its content, not its name.

Not for finding the file (kernels/image.py).  Module.symvers, which has no addresses, is told here
and read by kernels/headers.py.
"""

from __future__ import annotations

import enum
import re
import stat
from pathlib import Path

from kbridge.errors import KbridgeError, UsageError
from kbridge.symbols import image, kallsyms, modules
from kbridge.symbols.table import SymbolTable

_ELF = b"\x7fELF"
_SAMPLE = 4096  # bytes that tell what a file is

# Source: write_dump() in the kernel's scripts/mod/modpost.c.
_SYMVERS = re.compile(rb"0x[0-9a-f]{8}\t[!-~]+\t[!-~]+\tEXPORT_")


class Kind(enum.Enum):
    IMAGE = "kernel image"  # packed or not
    KALLSYMS = "kallsyms"  # or System.map: the same form
    RUNNING = "running kernel"  # /proc/kallsyms itself
    MODULES = "loaded modules"  # /proc/modules
    SYMVERS = "Module.symvers"


def _start(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise UsageError(
                f"{path}: not a regular file, and it is read more than once",
                hint="write what comes out of a pipe to a file first",
            )
        with path.open("rb") as stream:
            return stream.read(_SAMPLE)
    except OSError as problem:
        hint = "check the path given as --symbols"
        if isinstance(problem, PermissionError):
            hint = "read it as root, or make it readable"
        raise KbridgeError(f"cannot read {path}: {problem.strerror}", hint=hint) from problem


def kind(path: Path) -> Kind:
    """What the file is, by how it starts.  Text that is nothing else is taken for kallsyms."""
    start = _start(path)
    if start.startswith(_ELF) or b"\0" in start:
        return Kind.IMAGE
    if _SYMVERS.match(start):
        return Kind.SYMVERS
    if modules.is_list(start):
        return Kind.MODULES
    if kallsyms.FILE.exists() and path.samefile(kallsyms.FILE):
        return Kind.RUNNING
    return Kind.KALLSYMS


def read(path: Path, release: str = "", *, with_modules: bool = False) -> SymbolTable:
    """The symbols in a packed or unpacked kernel image, in text of kallsyms' form (of which
    `release` says the kernel), or of the modules that /proc/modules lists.

    `with_modules`: also those of modules, where kallsyms has them.  Raises KbridgeError for
    anything else.
    """
    found = kind(path)
    if found is Kind.IMAGE:
        return image.cached(path)
    if found is Kind.RUNNING:
        return kallsyms.running(modules=with_modules)
    if found is Kind.SYMVERS:
        raise KbridgeError(
            f"{path}: a Module.symvers has no addresses",
            hint="name the kernel image, or /proc/kallsyms",
        )
    content = path.read_bytes()
    if found is Kind.MODULES:
        return modules.read(content, str(path))
    return kallsyms.parse(content, release=release, origin=str(path), modules=with_modules)
