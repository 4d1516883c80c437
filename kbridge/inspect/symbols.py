# SPDX-License-Identifier: GPL-2.0-only
"""The kernel symbols that a file needs: what each is, who exports it, whether it is there."""

from __future__ import annotations

from dataclasses import dataclass

from kbridge.inspect import view as views
from kbridge.inspect.code import Facts
from kbridge.inspect.kernel import Kernel
from kbridge.inspect.report import KernelSymbol
from kbridge.inspect.view import View
from kbridge.kernels.headers import Export
from kbridge.pack import R_PLT32
from kbridge.symbols.table import LINKER_ALIASES, AmbiguousSymbol, Symbol

_NEAR = 8  # unknown names for which near ones are looked for


@dataclass(frozen=True)
class Needed:
    """A name; `module`: the one that the file says exports it; `weak`: it may be missing."""

    name: str
    weak: bool
    module: str = ""


def _called(view: View, facts: Facts) -> set[str]:
    """Names that are called or jumped to, so functions, whoever defines them."""
    found = set()
    for reference in view.references:
        if reference.kind != views.IMPORT:
            continue
        user = facts.users.get(reference.at)
        called = user is not None and user.is_branch and user.is_direct
        if reference.type == R_PLT32 or called:
            found.add(reference.name)
    return found


def _percpu_by_code(view: View, facts: Facts) -> set[str]:
    """Names that an instruction uses relative to GS."""
    return {
        reference.name
        for reference in view.references
        if reference.kind == views.IMPORT
        and reference.at in facts.users
        and "gs:" in facts.users[reference.at].operands
    }


class _Finder:
    def __init__(self, kernel: Kernel, called: set[str], percpu: set[str]) -> None:
        self.kernel, self.called, self.percpu = kernel, called, percpu
        self.near_left = _NEAR

    def _type(self, name: str, symbol: Symbol | None) -> str:
        if symbol is not None and symbol.is_function:
            return "function"
        if name in self.percpu or (symbol is not None and self.kernel.is_percpu(symbol)):
            return "per-CPU"
        if symbol is not None:
            return "data"
        return "function" if name in self.called else "unknown"

    def _look_up(self, name: str, export: Export | None) -> tuple[str, Symbol | None, list[str]]:
        """(status, the kernel image's symbol if it is meant, candidates)"""
        table = self.kernel.table
        if table is None:
            return ("found" if export else "unknown"), None, []
        of_module = export is not None and export.module != "vmlinux"
        if not table.find(name):
            return ("found", None, []) if of_module else ("missing", None, self._near(name))
        try:
            symbol = table.resolve(name)
        except AmbiguousSymbol as problem:
            rows = [f"{one.address:016x} {one.type}" for one in problem.candidates]
            return ("found", None, []) if of_module else ("ambiguous", None, rows)
        # static in the kernel image, exported by a module: that one is meant (imports.py)
        meant = not (of_module and symbol.type.islower())
        return "found", symbol if meant else None, []

    def _near(self, name: str) -> list[str]:
        if self.kernel.table is None or self.near_left <= 0:
            return []
        self.near_left -= 1  # each takes 0.1 s
        return self.kernel.table.near(name)

    def find(self, one: Needed) -> KernelSymbol:
        exports = self.kernel.exports
        export = None
        if exports is not None:
            export = exports.get(one.name) or exports.get(LINKER_ALIASES.get(one.name, ""))
        status, symbol, candidates = self._look_up(one.name, export)
        if one.module and status in ("missing", "unknown"):
            status = "found" if status == "unknown" else status
        if one.weak and status == "missing":
            status = "absent"
        provider = one.module or (export.module if export else "")
        if symbol is not None or (status == "ambiguous" and not provider):
            provider = "vmlinux"
        return KernelSymbol(
            name=one.name,
            type=self._type(one.name, symbol),
            status=status,
            provider=provider,
            exported=None if exports is None else export is not None,
            gpl_only=bool(export and export.gpl_only),
            namespace=export.namespace if export else "",
            weak=one.weak,
            candidates=candidates,
        )


def find(needed: list[Needed], kernel: Kernel, view: View, facts: Facts) -> list[KernelSymbol]:
    """Every needed symbol, by name."""
    finder = _Finder(kernel, _called(view, facts), _percpu_by_code(view, facts))
    return sorted(map(finder.find, needed), key=lambda symbol: symbol.name)
