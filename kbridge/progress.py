# SPDX-License-Identifier: GPL-2.0-only
"""What a person sees while something takes long: a line on the terminal, gone when it is over.

Only where stderr is a terminal, and neither --quiet nor --verbose (which says more).  Not for
results, nor for what is to stay in a log: log.py.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

from kbridge import log

_AFTER_SECONDS = 1.0


def wanted() -> bool:
    """Whether there is somebody to see it."""
    return (
        log.verbosity() == 0
        and sys.stderr is not None
        and sys.stderr.isatty()
        and os.environ.get("TERM", "dumb") != "dumb"
    )


class _Line:
    """The line, once it is there; the timer's thread makes it, others take it away."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._lock = threading.Lock()
        self._over = False
        self._status: Any = None

    def show(self) -> None:
        from rich.console import Console  # 0.1 s
        from rich.live import Live
        from rich.spinner import Spinner
        from rich.text import Text

        with self._lock:
            if not self._over:
                # Text: a name may look like rich's markup
                self._status = Live(
                    Spinner("line", Text(f"{self._text} ..."), style="status.spinner"),
                    console=Console(stderr=True, highlight=False),
                    refresh_per_second=12.5,
                    transient=True,
                    # others' words go where they went before, also those for a pipe
                    redirect_stdout=False,
                    redirect_stderr=False,
                )
                self._status.start()

    def end(self) -> None:
        with self._lock:
            self._over = True
            if self._status:
                self._status.stop()

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Take it away while a line is printed that stays."""
        with self._lock:
            if self._status and not self._over:
                self._status.stop()
            try:
                yield
            finally:
                if self._status and not self._over:
                    self._status.start()


_current: _Line | None = None
_current_lock = threading.Lock()


def _take(line: _Line) -> bool:
    """Make it the current one, unless there is one."""
    global _current
    with _current_lock:
        free = _current is None
        if free:
            _current = line
        return free


@contextlib.contextmanager
def doing(text: str) -> Iterator[None]:
    """Show `text` if the block takes more than a second; of blocks within blocks, the outer's."""
    global _current
    line = _Line(text)
    if not wanted() or not _take(line):
        yield
        return
    timer = threading.Timer(_AFTER_SECONDS, line.show)
    timer.daemon = True
    log.aside = line.aside
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        try:
            timer.join()  # who forks next wants no threads
        finally:
            line.end()
            _current, log.aside = None, log.at_once


def over() -> None:
    """The line has to go now, though its block is not over: a program gets the terminal."""
    if _current:
        _current.end()
