# SPDX-License-Identifier: GPL-2.0-only
"""Symbols of a file that somebody names, whatever kind it is: told by its content, not its name.

Not for finding the file (kernels/image.py), nor for the running kernel (kallsyms.running).
"""

from __future__ import annotations

from pathlib import Path

from kbridge.errors import KbridgeError
from kbridge.symbols import image, kallsyms
from kbridge.symbols.table import SymbolTable

_ELF = b"\x7fELF"
_SAMPLE = 4096  # bytes that tell text from an image


def read(path: Path, release: str = "") -> SymbolTable:
    """The symbols in a packed or unpacked kernel image, or in text of kallsyms' form (kallsyms,
    System.map, `nm -n`), of which `release` says the kernel.

    Raises KbridgeError for anything else, and for text in which all addresses are zero.
    """
    try:
        with path.open("rb") as stream:
            start = stream.read(_SAMPLE)
            if start.startswith(_ELF) or b"\0" in start:
                return image.cached(path)
            text = (start + stream.read()).decode("utf-8", errors="replace")
    except OSError as problem:
        raise KbridgeError(
            f"cannot read {path}: {problem.strerror}", hint="check the path given as --symbols"
        ) from problem
    table = kallsyms.parse(text, release=release, origin=str(path))
    if not any(one.address for one in table.symbols):
        raise KbridgeError(
            f"{path}: all addresses are zero: it was read by somebody who may not know them",
            hint="read /proc/kallsyms as root, with sysctl kernel.kptr_restrict below 2",
        )
    return table
