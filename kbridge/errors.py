# SPDX-License-Identifier: GPL-2.0-only
"""The errors that the library raises.

Every error carries one line of cause and, where there is one, one line that says what to do
next.  Only the command line and the SCons tool print them.
"""

from __future__ import annotations

EXIT_FAILED = 1
EXIT_USAGE = 2


class KbridgeError(Exception):
    """Something failed; `status` is the exit status of a command that ends with it."""

    status = EXIT_FAILED

    def __init__(self, message: str, *, hint: str | None = None, status: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if status is not None:
            self.status = status


class UsageError(KbridgeError):
    """The request itself is wrong: an unknown option, a missing file, a bad value."""

    status = EXIT_USAGE


class CommandError(KbridgeError):
    """A program that kbridge called failed; `stderr` is what it printed there."""

    def __init__(
        self, message: str, *, stderr: str = "", returncode: int = 1, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.stderr = stderr
        self.returncode = returncode
