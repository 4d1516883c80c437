# SPDX-License-Identifier: GPL-2.0-only
"""What each gate takes of the kernel stack; kbridge/stack.py finds out, for every kind of file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from kbridge import stack
from kbridge.inspect import view as views
from kbridge.inspect.view import View
from kbridge.stackwalk import Code, Region


def _code(view: View) -> Code:
    return Code(
        [Region(one.name, one.start, one.data, one.executable) for one in view.regions],
        [(one.name, one.start, one.size) for one in view.functions],
        {one.at: one.name for one in view.references if one.kind == views.IMPORT},
    )


def of_gates(view: View) -> Callable[[int, int], stack.Need | None]:
    """A function that tells what the gate to an address takes, given its words on the stack."""
    known = stack.Stack(_code(view))

    def need(start: int, words: int) -> stack.Need | None:
        if start not in known.frames:
            return None
        found = known.need(start)
        return replace(found, bytes=found.bytes + stack.WORD * words)

    return need
