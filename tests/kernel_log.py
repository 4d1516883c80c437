# SPDX-License-Identifier: GPL-2.0-only
"""Finds in a guest's kernel messages what should not be there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

_BAD = re.compile(
    r"\bBUG[: ]|WARNING:|Oops|general protection|Kernel panic|Call Trace|soft lockup|"
    r"unable to handle|double fault|refcount_t|use-after-free|"
    r"W\+X(?! (?:mappings: passed|pages found))|"
    r"list_(?:add|del) corruption|"
    r"\[#\d+\]"  # "divide error: 0000 [#1]" is not called an Oops by every kernel
)

# a mere stack dump, as of sysfs for a name that is taken, has no "end trace"
_END = re.compile(r"</TASK>|end trace")


def complaints(log: Path, expected: Sequence[str] = ()) -> list[str]:
    """The first line of every complaint of the kernel that no expected text explains.

    A complaint is a block: it starts with a bad line and ends with the trace's end.  It is
    expected when one of the texts is in it.
    """
    lines = log.read_text(errors="replace").splitlines()
    found, index = [], 0
    while index < len(lines):
        if _BAD.search(lines[index]):
            start = index
            while index + 1 < len(lines) and not _END.search(lines[index]):
                index += 1
            # WARN prints its message a line ahead of "WARNING:", a stack dump has four at the most
            # between message and "Call Trace"
            block = lines[max(0, start - 4) : index + 1]
            if not any(text in line for text in expected for line in block):
                found.append(lines[start])
        index += 1
    return found
