# SPDX-License-Identifier: GPL-2.0-only
"""kbridge's Python binding on a kernel with kelevate; test_languages.py runs it in a guest."""

from __future__ import annotations

import collections
import ctypes
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable

import kbridge
from kbridge.errors import KbridgeError

CHECKS: list[Callable[[], None]] = []
NOBODY = 65534


def check(function: Callable[[], None]) -> Callable[[], None]:
    CHECKS.append(function)
    return function


def refusal(function: Callable[[], object]) -> KbridgeError:
    try:
        function()
    except KbridgeError as problem:
        return problem
    raise AssertionError("nothing was raised")


def in_child(function: Callable[[], None]) -> None:
    child = os.fork()
    if not child:
        try:
            function()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


@check
def brackets_nest() -> None:
    with kbridge.elevated(), kbridge.elevated():
        assert kbridge.is_elevated()
    assert not kbridge.is_elevated()


@check
def a_body_that_fails() -> None:
    try:
        with kbridge.elevated():
            int("x")
    except ValueError:
        assert not kbridge.is_elevated()


@check
def much_python_in_brackets() -> None:
    """Allocations, collections, files and signals."""
    seen = []
    signal.signal(signal.SIGALRM, lambda *_: seen.append(kbridge.is_elevated()))
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    for _ in range(10):
        with kbridge.elevated():
            data = [{str(i): [i]} for i in range(2000)]
            gc.collect()
            with open(__file__) as file:
                assert "much_python_in_brackets" in file.read()
        assert data[-1] == {"1999": [1999]}
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert seen


@check
def threads() -> None:
    """Each thread has its own bracket."""
    failed = []

    def work() -> None:
        for _ in range(50):
            with kbridge.elevated():
                inside = kbridge.is_elevated()
            if not inside or kbridge.is_elevated():
                failed.append(threading.get_ident())

    with kbridge.elevated():
        others = [threading.Thread(target=work) for _ in range(4)]
        for one in others:
            one.start()
        for one in others:
            one.join()
    assert not failed


@check
def forked_children() -> None:
    with kbridge.elevated():
        in_child(lambda: sys.exit(1) if kbridge.is_elevated() else None)


@check
def kernel_memory() -> None:
    banner = kbridge.kernel.symbol("linux_banner")
    with kbridge.elevated():
        text = ctypes.string_at(banner.address)
    assert os.uname().release.encode() in text


@check
def calls() -> None:
    kernel = kbridge.kernel
    read, write = kernel.symbol("ksys_read"), kernel.symbol("ksys_write")
    here, there = os.pipe()
    for bracket in (False, True):
        room = bytearray(8)
        if bracket:
            with kbridge.elevated():
                results = write(there, b"bytes", 5), read(here, room, 8)
        else:
            results = write(there, b"bytes", 5), read(here, room, 8)
        assert results == (5, 5)
        assert room == b"bytes\0\0\0"
    assert write(1000, b"x", 1) == -9  # EBADF
    assert write(there, ctypes.c_void_p(1), 1) == -14  # EFAULT
    assert hex(write) == hex(write.address)


@check
def names() -> None:
    symbol = kbridge.kernel.symbol
    assert "ksys_write" in str(refusal(lambda: symbol("ksys_writ")).hint)
    with open("/proc/kallsyms") as file:
        counted = collections.Counter(line.split()[2] for line in file if "\t[" not in line)
        several = next(name for name, count in counted.items() if count == 2)
    problem = refusal(lambda: symbol(several))
    assert f"2 definitions of {several}: " in problem.message, problem.message


@check
def without_the_right() -> None:
    def try_it() -> None:
        os.setuid(NOBODY)
        problem = refusal(kbridge.elevated().__enter__)
        assert "CAP_SYS_MODULE" in str(problem.hint), problem.message

    in_child(try_it)


for one in CHECKS:
    one()
    print("ok", one.__name__, flush=True)
