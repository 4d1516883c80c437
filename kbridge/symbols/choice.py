# SPDX-License-Identifier: GPL-2.0-only
"""A person's choice among several symbols of one name: NAME=ADDRESS or NAME@FILE."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kbridge.errors import KbridgeError, UsageError
from kbridge.symbols import files
from kbridge.symbols.table import Symbol, SymbolTable, UnknownSymbol, listed

_CHOICE = re.compile(r"([!-<>-?A-~]+)(?:=(0x)?([0-9a-fA-F]+)|@([!-~]+))")


def _by_file(name: str, file: str, candidates: Sequence[Symbol], vmlinux: Path | None) -> Symbol:
    if vmlinux is None:
        raise KbridgeError(
            f"{name}@{file}: nothing here says which source files the kernel's symbols are from",
            hint=f"choose by address: --symbol {name}=ADDRESS, one of "
            f"{listed(candidates)}; a vmlinux with symbols (of a debug package) says the files",
        )
    found = files.choose(vmlinux, name, file, candidates)
    if len({one.address for one in found}) != 1:
        known = files.of(vmlinux, name)
        all_ = sorted({one for names in known.values() for one in names if one})
        what = f"{len(found)} definitions" if found else "no definition"
        raise KbridgeError(
            f"{name}@{file}: {vmlinux} has {what} of {name} in that file",
            hint=f"it is in {', '.join(all_) or 'none'}; or choose by address, one of "
            + listed(candidates),
        )
    return found[0]


def _chosen(table: SymbolTable, words: str, vmlinux: Path | None) -> Symbol:
    fields = _CHOICE.fullmatch(words)
    if fields is None:
        raise UsageError(
            f"{words!r} is not a choice of a symbol", hint="give NAME=ADDRESS or NAME@FILE"
        )
    name, _, address, file = fields.groups()
    candidates = table.find(name)
    if not candidates:
        raise UnknownSymbol(name, table.near(name), table.release)
    if file:
        return _by_file(name, file, candidates, vmlinux)
    for one in candidates:
        if one.address == int(address, 16):
            return one
    raise KbridgeError(
        f"kernel {table.release or '?'} has no {name} at {int(address, 16):#x}",
        hint=f"its definitions: {listed(candidates)}",
    )


def choose(table: SymbolTable, choices: Sequence[str], vmlinux: Path | None) -> SymbolTable:
    """The table, in which each name of `choices` has the one meaning that was chosen.

    `vmlinux`: a file with the kernel's symbol table, for choices by file.  Raises KbridgeError
    that lists the candidates for a choice that fits none of them, or more than one.
    """
    chosen: dict[str, Symbol] = {}
    for words in choices:
        one = _chosen(table, words, vmlinux)
        if chosen.setdefault(one.name, one) != one:
            raise UsageError(f"{one.name} is chosen twice", hint="choose each name once")
    return replace(table, choices=chosen) if chosen else table
