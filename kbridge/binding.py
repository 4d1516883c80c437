# SPDX-License-Identifier: GPL-2.0-only
"""libkbridge for Python programs: hardware privilege for the calling thread.

`import kbridge` loads this module when one of its names is used first.  Not for building or running
programs: it works where the kernel has kelevate loaded, as in a guest of `kbridge run`.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager

from kbridge.errors import KbridgeError
from kbridge.runtime import RUN_FOLDER

# By its full path: no LD_LIBRARY_PATH puts another in its place.
LIBRARY = f"{RUN_FOLDER}/libkbridge.so"

_HINTS = {
    errno.EINVAL: "each bracket ends once, on the thread that began it",
    errno.EOPNOTSUPP: "the kernel log (dmesg) says why",
    errno.ENOENT: "run the program with kbridge run, or load the kelevate module",
    errno.EPERM: "only holders of CAP_SYS_MODULE may elevate: run it as root",
    errno.EACCES: "only holders of CAP_SYS_MODULE may elevate: run it as root",
}


@functools.cache
def library() -> ctypes.CDLL:
    """libkbridge.so of this boot.  Raises KbridgeError where there is none."""
    try:
        loaded = ctypes.CDLL(LIBRARY, use_errno=True)
        loaded.kb_symbol.argtypes = [ctypes.c_char_p]
        loaded.kb_symbol.restype = ctypes.c_ulong
        loaded.kb_call.restype = ctypes.c_long
        for function in (loaded.kb_elevate, loaded.kb_lower, loaded.kb_is_elevated):
            function.argtypes = []
    except (OSError, AttributeError) as problem:
        raise KbridgeError(
            f"cannot load libkbridge: {problem}",
            hint="run the program with kbridge run, which puts it there",
        ) from problem
    return loaded


def _require(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise KbridgeError(f"{what}: {os.strerror(number)}", hint=_HINTS.get(number))


def is_elevated() -> bool:
    """Whether this thread is in ring 0."""
    return bool(library().kb_is_elevated())


@contextmanager
def elevated() -> Iterator[None]:
    """A bracket: `with kbridge.elevated():` runs its body in ring 0, on this thread alone.

    Brackets nest.  The body has to end on the thread that began it.  Kernel memory can be read and
    written there; kernel functions are called by kbridge.kernel, never through a pointer.
    Raises KbridgeError where the thread may not elevate, or was lowered by other means.
    """
    _require(library().kb_elevate(), "cannot elevate")
    try:
        yield
    finally:
        _require(library().kb_lower(), "cannot lower")
