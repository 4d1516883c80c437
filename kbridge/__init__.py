# SPDX-License-Identifier: GPL-2.0-only
"""kbridge links ordinary programs against the Linux kernel.

For Python programs that run on a kernel with kelevate:

    with kbridge.elevated(): ...                        # this thread in ring 0
    kbridge.kernel.symbol("ksys_write")(1, b"Hi\\n", 3)  # a function of the kernel
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # as type checkers know it; typing itself would take 7 ms to import
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from typing import Any

    elevated: Callable[[], AbstractContextManager[None]]
    is_elevated: Callable[[], bool]

__version__ = "0.1.0"

_BINDING = ("elevated", "is_elevated")


def __getattr__(name: str) -> Any:
    """The binding, imported when it is used first: the command has no need of it."""
    if name == "kernel":
        return importlib.import_module("kbridge.kernel")
    if name in _BINDING:
        return getattr(importlib.import_module("kbridge.binding"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
