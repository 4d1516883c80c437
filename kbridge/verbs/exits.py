# SPDX-License-Identifier: GPL-2.0-only
"""The statuses with which `kbridge run` and `kbridge elevate` tell how a program did not end by
itself.
"""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

from kbridge import proc
from kbridge.errors import KbridgeError
from kbridge.vm.program import NOT_EXECUTABLE, NOT_FOUND


def not_started(path: Path, number: int) -> KbridgeError:
    """execve() refused the program with errno `number`."""
    reason = os.strerror(number)
    if number in (errno.ENOENT, errno.ENOTDIR):
        return KbridgeError(
            f"{path}: {reason}",
            hint="is its interpreter there? readelf -l PROG names it",
            status=NOT_FOUND,
        )
    return KbridgeError(
        f"{path}: {reason}", hint="PROG is a program for x86-64", status=NOT_EXECUTABLE
    )


def ended_by(path: Path, number: int, cause: str, hint: str) -> int:
    """128 + number.  Raises KbridgeError that says why, except where nobody read the output."""
    if number == signal.SIGPIPE:
        return 128 + number
    raise KbridgeError(
        f"{path} was {proc.describe_exit(-number)}{cause}", hint=hint, status=128 + number
    )
