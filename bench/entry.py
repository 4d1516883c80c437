# SPDX-License-Identifier: GPL-2.0-only
"""What benchmarks have in common: for which kernels, where the page goes, and how they end: errors
as lines, and temporary folders gone also where SIGTERM ends it.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from kbridge import interrupts, paths
from kbridge.errors import KbridgeError
from kbridge.kernels import target
from kbridge.kernels.target import KernelTarget

ROOT = Path(__file__).resolve().parents[1]


def kernels(wanted: Sequence[str] | None) -> list[KernelTarget]:
    """Those of --kernel, else all with headers.  Raises KbridgeError."""
    found = [target.find(release) for release in wanted or ()] or target.installed()
    if not found:
        raise KbridgeError("no kernel headers installed", hint="run: make setup")
    return found


def command(file: str, argv: Sequence[str]) -> str:
    """How a page says it was made."""
    return f".venv/bin/python {shlex.join([os.path.relpath(file, ROOT), *argv])}"


def write_page(page: Path, text: str) -> None:
    """Raises KbridgeError."""
    paths.make_parent(page)
    paths.write_atomically(page, text)


def main(run: Callable[[Sequence[str]], None]) -> int:
    """Run the benchmark with the command's words; the exit status."""
    name = Path(sys.argv[0]).name
    try:
        with interrupts.unwinding(signal.SIGTERM):
            run(sys.argv[1:])
    except interrupts.Interrupted as problem:
        return 128 + problem.number
    except KbridgeError as problem:
        print(f"{name}: {problem.message}", file=sys.stderr)
        if problem.hint:
            print(f"{name}: {problem.hint}", file=sys.stderr)
        return 1
    return 0
