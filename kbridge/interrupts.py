# SPDX-License-Identifier: GPL-2.0-only
"""Signals that ask kbridge to end unwind the stack, so that temporary files go and programs that
it started end with it.

Python runs a signal's handler between any two instructions of the main thread.  Where these are
those of a destructor, Python prints the exception ("Exception ignored in ...") and goes on as if
there had been no signal.  Such a signal is sent again a moment later.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

_AGAIN_SECONDS = 0.01


class Interrupted(BaseException):
    """Signal `number` asked us to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Signals that ask us to end come when the block is over: inside are imports of modules whose
    C++ aborts the process when something raises there.
    """
    if threading.current_thread() is not threading.main_thread():  # signals raise in that one only
        yield
        return
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    taken = [number for number, handler in before.items() if callable(handler)]
    came: list[int] = []
    try:
        # a mask would not do: another thread takes the signal, and this one runs the handler
        for one in taken:
            signal.signal(one, lambda number, _: came.append(number))
        yield
    finally:
        for one in taken:
            signal.signal(one, before[one])
        if came:
            signal.raise_signal(came[0])


@contextlib.contextmanager
def unwinding(*numbers: int) -> Iterator[None]:
    """The first of these signals raises Interrupted in the main thread, later ones must not
    interrupt the clearing up; those that were ignored before stay ignored.
    """
    before = {number: signal.getsignal(number) for number in numbers}
    taken = [number for number in numbers if before[number] != signal.SIG_IGN]

    def end(number: int, _frame: FrameType | None) -> None:
        for one in taken:
            signal.signal(one, signal.SIG_IGN)
        raise Interrupted(number)

    def unraisable(what: sys.UnraisableHookArgs) -> None:
        if not isinstance(what.exc_value, Interrupted):
            hook(what)
            return
        number = what.exc_value.number
        signal.signal(number, end)
        again = threading.Timer(_AGAIN_SECONDS, os.kill, (os.getpid(), number))
        again.daemon = True
        again.start()

    hook = sys.unraisablehook
    sys.unraisablehook = unraisable
    for one in taken:
        signal.signal(one, end)
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for one in taken:
            signal.signal(one, before[one])
