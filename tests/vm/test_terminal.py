# SPDX-License-Identifier: GPL-2.0-only
"""kbridge run on a terminal: what it shows while it boots is gone when the program speaks."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

from kbridge.kernels import target

_PROGRESS = "booting kernel"
# kbridge whose progress shows at once, on the fastest machine, too
_AT_ONCE = """
import sys
from kbridge import cli, progress
progress._AFTER_SECONDS = 0
sys.exit(cli.main(sys.argv[1:]))
"""


def on_terminal(command: list[str]) -> tuple[int, str]:
    """Status, and all that a terminal gets of both stdout and stderr."""
    ours, theirs = os.openpty()
    environment = {**os.environ, "TERM": "xterm"}
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        seen = b""
        with contextlib.suppress(OSError):  # EIO: nobody has the other end any more
            while piece := os.read(ours, 4096):
                seen += piece
    os.close(ours)
    return process.returncode, seen.decode()


def test_progress_is_gone_when_the_program_speaks(kernels: list[target.KernelTarget]) -> None:
    words = ["run", "--fresh", "--kernel", kernels[-1].release, "/bin/echo", "the program"]
    status, seen = on_terminal([sys.executable, "-c", _AT_ONCE, *words])
    assert status == 0, seen
    before, _, after = seen.partition("the program\r\n")
    assert _PROGRESS in before
    assert before.endswith("\x1b[2K")  # the line is erased
    assert before.rindex("\x1b[?25h") > before.rindex(_PROGRESS)  # and the cursor is back
    assert after == ""


def test_quiet_has_none(kernels: list[target.KernelTarget]) -> None:
    words = ["-q", "run", "--kernel", kernels[-1].release, "/bin/echo", "the program"]
    assert on_terminal([sys.executable, "-c", _AT_ONCE, *words]) == (0, "the program\r\n")
