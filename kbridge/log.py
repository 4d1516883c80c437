# SPDX-License-Identifier: GPL-2.0-only
"""What kbridge says to a person, always on stderr, so that stdout belongs to the program.

Not for program output, nor for errors inside the library: those are raised.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager

from kbridge.errors import CommandError, KbridgeError

_verbosity = 0
# what is around each line: progress.py takes its own line away meanwhile
at_once: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext
aside = at_once


def set_verbosity(level: int) -> None:
    """-1: warnings and errors only; 0: progress in a few words; 1: also commands that are run."""
    global _verbosity
    _verbosity = level


def verbosity() -> int:
    return _verbosity


def _colour(code: str, text: str) -> str:
    if sys.stderr is not None and sys.stderr.isatty() and not os.environ.get("NO_COLOR"):
        return f"\x1b[{code}m{text}\x1b[0m"
    return text


def _say(line: str) -> None:
    if sys.stderr is None:  # closed when Python started; print() would take stdout
        return
    # stderr may be closed or full: then nobody is listening
    with contextlib.suppress(OSError, ValueError), aside():
        print(line, file=sys.stderr, flush=True)


def info(message: str) -> None:
    if _verbosity >= 0:
        _say(f"{_colour('1', 'kbridge:')} {message}")


def detail(message: str) -> None:
    if _verbosity >= 1:
        _say(f"kbridge: {message}")


def warning(message: str) -> None:
    _say(f"{_colour('1;33', 'kbridge: warning:')} {message}")


def error(problem: KbridgeError) -> None:
    """One line of cause, what the called program said, one line of what to do next."""
    if isinstance(problem, CommandError) and problem.stderr.strip():
        _say(problem.stderr.rstrip())
    _say(f"{_colour('1;31', 'kbridge: error:')} {problem.message}")
    if problem.hint:
        _say(f"{_colour('1', 'kbridge: hint:')} {problem.hint}")


def passed_on(text: str) -> None:
    """What a compiler printed, as it printed it."""
    _say(text.rstrip("\n"))
