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
from kbridge.vm import fault
from kbridge.vm.fault import Fault

_KEPT = 1 << 20  # bytes; the rest is in the log file, if there is one
_LINES = 12
_FAULT_LINES = 24
_PANIC_SECONDS = 5.0
_PANIC_BYTES = b"Kernel panic - not syncing"
_PANIC = re.compile(r"Kernel panic - not syncing: (.*)")
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

    def said(self) -> bytes:
        """The end of what it said, up to 1 MiB."""
        return bytes(self._tail)

    def forget(self) -> None:
        """What comes next is another machine's."""
        self._tail.clear()
        self._panicked = None

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

    def fault(self) -> Fault | None:
        """The fault that ended the program, or the machine."""
        return fault.last(self.text().splitlines())

    def print_fault(self) -> None:
        """What the kernel said about the oops or panic, for the error message."""
        lines = self.text().splitlines()
        panics = [k for k, line in enumerate(lines) if _PANIC.search(line)]
        found = self.fault()
        shown = found.lines if found else lines[panics[0] if panics else len(lines) :]
        if shown:
            cut = ["..."] if len(shown) > _FAULT_LINES else []
            self._print([*shown[:_FAULT_LINES], *cut])
        else:
            self.print_last_lines()

    def print_last_lines(self) -> None:
        """For the error message; nothing where they have been shown already."""
        self._print([line for line in self.text().splitlines() if line.strip()][-_LINES:])

    def _print(self, lines: Sequence[str]) -> None:
        if lines and not self._show:
            log.passed_on("\n".join(["what the guest's kernel said:", *lines]))
