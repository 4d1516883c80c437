# SPDX-License-Identifier: GPL-2.0-only
"""What the guest's kernel says: kept for the error message, shown or written where asked."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from kbridge import log

_KEPT = 1 << 20  # bytes; the rest is in the log file, if there is one
_LINES = 12
_FAULT_LINES = 24
_PANIC_SECONDS = 5.0
_PANIC_BYTES = b"Kernel panic - not syncing"
_PANIC = re.compile(r"Kernel panic - not syncing: (.*)")
# How the kernel begins to tell of a fault: lib/bug.c, arch/x86/mm/fault.c, __die_header() in
# arch/x86/kernel/dumpstack.c (which says "Oops: " before all of them since 6.10 only).
_FAULT = re.compile(
    r"kernel BUG at .*!|BUG: .*|Oops: .*|general protection fault.*|[a-z ]+: [0-9a-f]{4} \[#\d+\].*"
)
_FAULT_END = "---[ end trace"
_WHERE = re.compile(r"RIP: 0010:(\S+\+0x\S+(?: \[\S+\])?)")
_NOISE = re.compile(r"\x1b\[[0-9;?=]*[A-Za-z]|\x1bc|\r")


class Console:
    """`show`: pass it on to stderr as it comes; `file`: write it there too."""

    def __init__(self, *, show: bool = False, file: Path | None = None) -> None:
        self._tail = bytearray()
        self._panicked: float | None = None
        self._show = show
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644) if file else -1

    def take(self, data: bytes) -> None:
        self._tail += data
        del self._tail[:-_KEPT]
        if self._panicked is None and _PANIC_BYTES in self._tail[-len(data) - len(_PANIC_BYTES) :]:
            self._panicked = time.monotonic()
        if self._file >= 0:
            os.write(self._file, data)
        if self._show:
            try:
                sys.stderr.buffer.write(data)
                sys.stderr.flush()
            except (OSError, ValueError, AttributeError):
                self._show = False  # nobody is listening

    def hangs_in_panic(self) -> bool:
        """Whether the kernel has given up and the machine has not ended since."""
        return self._panicked is not None and time.monotonic() > self._panicked + _PANIC_SECONDS

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def text(self) -> str:
        return _NOISE.sub("", self._tail.decode("utf-8", "replace"))

    def panic(self) -> str | None:
        """Why the kernel gave up, in its own words."""
        found = _PANIC.search(self.text())
        return found[1].strip() if found else None

    def fault(self) -> str | None:
        """What the kernel says first of its last oops, and the function that it was in."""
        lines = self._last_fault()
        if not lines:
            return None
        where = next(filter(None, map(_WHERE.search, lines)), None)
        cause = _FAULT.search(lines[0])
        return f"{cause[0].strip() if cause else lines[0]}{f' in {where[1]}' if where else ''}"

    def _last_fault(self) -> list[str]:
        """The lines of the last oops, the first of which has its cause."""
        start, found, lines = None, [], self.text().splitlines()
        for k, line in enumerate(lines):
            if start is None and _FAULT.search(line):
                start, found = k, lines[k:]
            elif start is not None and _FAULT_END in line:
                start, found = None, lines[start : k + 1]
        return found

    def print_fault(self) -> None:
        """What the kernel said about the oops or panic, for the error message."""
        lines = self.text().splitlines()
        panics = [k for k, line in enumerate(lines) if _PANIC.search(line)]
        fault = self._last_fault() or lines[panics[0] if panics else len(lines) :]
        if fault:
            self._print(fault[:_FAULT_LINES])
        else:
            self.print_last_lines()

    def print_last_lines(self) -> None:
        """For the error message; nothing where they have been shown already."""
        self._print([line for line in self.text().splitlines() if line.strip()][-_LINES:])

    def _print(self, lines: Sequence[str]) -> None:
        if lines and not self._show:
            log.passed_on("\n".join(["what the guest's kernel said:", *lines]))
