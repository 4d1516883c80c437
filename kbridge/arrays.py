# SPDX-License-Identifier: GPL-2.0-only
"""Loads numpy without the threads of its linear algebra, which nothing here uses.

To start them takes longer than to write libkernel.so.  Not for what is done with arrays.
"""

from __future__ import annotations

import os

_THREADS = "OPENBLAS_NUM_THREADS"  # read once, when the library is loaded


def load() -> None:
    """Import numpy; the environment is as before, so that programs that we start do not see it."""
    before = os.environ.get(_THREADS)
    os.environ[_THREADS] = "1"
    try:
        import numpy as np  # noqa: F401
    finally:
        if before is None:
            del os.environ[_THREADS]
        else:
            os.environ[_THREADS] = before
