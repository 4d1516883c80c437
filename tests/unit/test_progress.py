# SPDX-License-Identifier: GPL-2.0-only
"""The line of progress: seen on a terminal only, late, and gone in the end."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

import pytest

_SLOW = """
import sys, time
from kbridge import log, progress

log.set_verbosity(VERBOSITY)
progress._AFTER_SECONDS = DELAY
with progress.doing("boiling water"):
    with progress.doing("an inner step"):
        if DELAY < 1:
            while VERBOSITY == 0 and not progress._current._status:
                time.sleep(0.01)
        log.info("the first cup is full")
        progress.over()
        print("a program's words", file=sys.stderr)
print("rich" in sys.modules)
"""


def on_terminal(
    verbosity: int = 0, after: float = 0.0, script: str = _SLOW, **environment: str
) -> tuple[str, str]:
    """What the terminal (stderr) and stdout get."""
    ours, theirs = os.openpty()
    script = script.replace("VERBOSITY", str(verbosity)).replace("DELAY", str(after))
    env = {**os.environ, "TERM": "xterm", **environment}
    with subprocess.Popen(
        [sys.executable, "-c", script], env=env, stdout=subprocess.PIPE, stderr=theirs, text=True
    ) as process:
        os.close(theirs)
        seen = b""
        with contextlib.suppress(OSError):  # EIO: nobody has the other end any more
            while piece := os.read(ours, 4096):
                seen += piece
        assert process.stdout
        out = process.stdout.read()
    os.close(ours)
    assert process.returncode == 0, seen.decode()
    return seen.decode(), out


def test_it_is_there_and_goes() -> None:
    seen, _ = on_terminal()
    assert "boiling water ..." in seen
    assert "an inner step" not in seen
    assert "the first cup is full\r\n" in seen
    last = seen.rpartition("boiling water ...")[2]
    erased, _, rest = last.partition("a program's words")
    assert "\x1b[2K" in erased
    assert erased.count("\x1b[?25h") == 1  # the cursor is back
    assert rest == "\r\n"


def test_what_is_quick_shows_nothing_and_loads_nothing() -> None:
    seen, out = on_terminal(after=60)
    assert "boiling" not in seen
    assert out == "False\n"


@pytest.mark.parametrize("verbosity", [-1, 1])
def test_quiet_and_verbose_have_none(verbosity: int) -> None:
    seen, out = on_terminal(verbosity)
    assert "boiling" not in seen
    assert out == "False\n"


def test_a_dumb_terminal_has_none() -> None:
    seen, out = on_terminal(after=60, TERM="dumb")
    assert "\x1b" not in seen.replace("\x1b[1mkbridge:\x1b[0m", "")
    assert out == "False\n"


def test_no_colour() -> None:
    seen, _ = on_terminal(NO_COLOR="1")
    assert "boiling water ..." in seen
    assert "\x1b[1m" not in seen
    assert "\x1b[32m" not in seen


def test_no_terminal() -> None:
    script = _SLOW.replace("VERBOSITY", "-0").replace("DELAY", "60")
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == (
        "False\n",
        "kbridge: the first cup is full\na program's words\n",
    )


def test_names_are_no_markup_and_stdout_is_left_alone() -> None:
    script = _SLOW.replace("boiling", "o[/b]")
    script = script.replace("progress.over()", 'print("a result", flush=True); progress.over()')
    seen, out = on_terminal(script=script)
    assert out == "a result\nTrue\n"
    assert "o[/b] water ..." in seen
    assert "a result" not in seen
    assert "Traceback" not in seen
