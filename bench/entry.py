# SPDX-License-Identifier: GPL-2.0-only
"""How a benchmark ends: errors as lines, and temporary folders gone also where SIGTERM ends it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from kbridge.errors import KbridgeError


def _on_terminate(_number: int, _frame: object) -> NoReturn:
    sys.exit(128 + signal.SIGTERM)  # which also removes the temporary folder


def main(run: Callable[[Sequence[str]], None]) -> int:
    """Run the benchmark with the command's words; the exit status."""
    name = Path(sys.argv[0]).name
    signal.signal(signal.SIGTERM, _on_terminate)
    try:
        run(sys.argv[1:])
    except KbridgeError as problem:
        print(f"{name}: {problem.message}", file=sys.stderr)
        if problem.hint:
            print(f"{name}: {problem.hint}", file=sys.stderr)
        return 1
    return 0
