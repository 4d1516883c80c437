# SPDX-License-Identifier: GPL-2.0-only
"""Signals that ask the program to end do so wherever they find it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from kbridge import interrupts


class Ending:
    """Gets a signal while Python takes it apart, where an exception is lost."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.001)


def test_the_first_signal_unwinds_and_later_ones_do_not() -> None:
    done = []
    try:
        with interrupts.unwinding(signal.SIGTERM):
            try:
                signal.raise_signal(signal.SIGTERM)
                done.append("went on")
            finally:
                signal.raise_signal(signal.SIGTERM)
                done.append("cleared up")
    except interrupts.Interrupted as problem:
        done.append(str(problem.number))
    assert done == ["cleared up", str(int(signal.SIGTERM))]


def test_a_signal_in_a_destructor_is_not_lost(capfd: pytest.CaptureFixture[str]) -> None:
    ended = False
    try:
        with interrupts.unwinding(signal.SIGTERM):
            Ending()
            time.sleep(5)
    except interrupts.Interrupted:
        ended = True
    assert ended
    assert capfd.readouterr().err == ""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_other_exceptions_of_destructors_are_reported_as_before() -> None:
    said: list[object] = []
    before = sys.unraisablehook
    sys.unraisablehook = lambda what: said.append(what.exc_type)
    try:
        with interrupts.unwinding(signal.SIGTERM):

            class Bad:
                def __del__(self) -> None:
                    raise ValueError

            Bad()
        assert said == [ValueError]
    finally:
        sys.unraisablehook = before


def test_what_was_there_before_comes_back() -> None:
    hook, handler = sys.unraisablehook, signal.getsignal(signal.SIGTERM)
    with interrupts.unwinding(signal.SIGTERM):
        assert signal.getsignal(signal.SIGTERM) != handler
    assert (sys.unraisablehook, signal.getsignal(signal.SIGTERM)) == (hook, handler)


def test_an_ignored_signal_stays_ignored() -> None:
    script = (
        "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "from kbridge import interrupts\n"
        "with interrupts.unwinding(signal.SIGINT): signal.raise_signal(signal.SIGINT)\n"
        "print('on')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert done.stdout == "on\n"


def test_a_held_signal_comes_when_the_block_is_over() -> None:
    """Also one that another thread took, and while C++ code calls Python (lief's import)."""
    done = []
    try:
        with interrupts.unwinding(signal.SIGTERM):
            with interrupts.held():
                other = threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGTERM))
                other.start()
                other.join()
                time.sleep(0.01)
                done.append("imported")
            done.append("went on")
    except interrupts.Interrupted as problem:
        done.append(str(problem.number))
    assert done == ["imported", str(int(signal.SIGTERM))]


def test_lief_is_imported_in_peace() -> None:
    script = (
        "import os, signal, sys, threading\n"
        "from kbridge import interrupts\n"
        "def look(*_):\n"
        "    if 'lief._lief' in sys.modules or 'lief' in sys.modules:\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        sys.setprofile(None)\n"
        "try:\n"
        "    with interrupts.unwinding(signal.SIGTERM), interrupts.held():\n"
        "        sys.setprofile(look)\n"
        "        import lief\n"
        "except interrupts.Interrupted:\n"
        "    print('unwound', 'lief' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "unwound True\n", "")
