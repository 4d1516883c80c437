# SPDX-License-Identifier: GPL-2.0-only
"""Which variables of the caller's environment the program gets.

A list of what passes, not of what does not: sockets, keys and sessions of this machine (agents,
D-Bus, displays, run-time folders) mean nothing in the guest.  The same list holds where the
program runs here, so that it sees the same in both.
"""

from __future__ import annotations

from collections.abc import Mapping

_NAMES = frozenset(
    {
        "COLORTERM",
        "COLUMNS",
        "HOME",
        "KBRIDGE_PARAMS",  # parameters of kmods
        "LANG",
        "LANGUAGE",
        "LINES",
        "LOGNAME",
        "NO_COLOR",
        "PATH",
        "SOURCE_DATE_EPOCH",
        "TERM",
        "TZ",
        "USER",
    }
)
_PREFIXES = (
    "LC_",
    "KB_",
    "LD_",  # the libraries that LD_LIBRARY_PATH and LD_PRELOAD find come along
    "GLIBC_",
    "MALLOC_",
    "ASAN_",
    "UBSAN_",
    "PYTHON",
)


def passes(name: str) -> bool:
    return name in _NAMES or name.startswith(_PREFIXES)


def filtered(environment: Mapping[str, str], folder: str) -> dict[str, str]:
    """The variables that pass; PWD is the working folder."""
    kept = {name: value for name, value in environment.items() if passes(name)}
    return {**kept, "PWD": folder}
