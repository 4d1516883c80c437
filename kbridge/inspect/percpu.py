# SPDX-License-Identifier: GPL-2.0-only
"""Which functions use which per-CPU variables: the kernel's, and the file's own."""

from __future__ import annotations

import bisect
from collections.abc import Iterable

from kbridge.inspect import tables
from kbridge.inspect import view as views
from kbridge.inspect.code import Facts
from kbridge.inspect.report import KernelSymbol, PerCpu
from kbridge.inspect.view import Reference, View
from kbridge.pack import R_PC32, R_PC64, R_PLT32


def _own_name(view: View, facts: Facts, reference: Reference) -> str:
    offset = reference.value
    user = facts.users.get(reference.at)
    if reference.type in (R_PC32, R_PLT32, R_PC64) and user is not None:
        offset += user.end - reference.at  # such an addend counts from the instruction's end
    starts = [variable.offset for variable in view.variables]
    index = bisect.bisect_right(starts, offset) - 1
    if index >= 0:
        variable = view.variables[index]
        if offset < variable.offset + max(1, variable.size):
            return variable.name
    return f"{offset:#x}"


def find(view: View, facts: Facts, symbols: Iterable[KernelSymbol]) -> list[PerCpu]:
    """By name, the file's own first; a use in data is shown by its section."""
    kernels = {symbol.name for symbol in symbols if symbol.type == "per-CPU"}
    replaced = tables.alternatives(view) or []
    users: dict[tuple[bool, str], set[str]] = {}
    for reference in view.references:
        if reference.kind == views.PERCPU:
            key = (True, _own_name(view, facts, reference))
        elif reference.kind == views.IMPORT and reference.name in kernels:
            key = (False, reference.name)
        else:
            continue
        at = next((one.at for one in replaced if one.holds(reference.at)), reference.at)
        users.setdefault(key, set()).add(view.where(at)[0] or "(data)")
    for variable in view.variables:
        users.setdefault((True, variable.name), set())
    return [
        PerCpu(name, own, sorted(functions))
        for (own, name), functions in sorted(users.items(), key=lambda row: (not row[0][0], row[0]))
    ]
