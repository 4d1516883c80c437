# SPDX-License-Identifier: GPL-2.0-only
"""paths.alone: one at a time, whatever becomes of the one before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from kbridge import paths

_SCRIPT = """
import pathlib, sys, time
from kbridge import paths

with paths.alone(pathlib.Path(sys.argv[1])):
    print("in", flush=True)
    sys.stdin.read()
"""


def start(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _SCRIPT, folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_the_second_waits_for_the_first_even_if_that_is_killed(tmp_path: Path) -> None:
    with start(tmp_path) as first:
        assert first.stdout
        assert first.stdout.readline() == "in\n"
        with start(tmp_path) as second:
            assert second.stdout
            (tmp_path / "made").write_text("by the first")
            first.kill()
            assert second.stdout.readline() == "in\n"
            second.communicate("")
            assert second.returncode == 0
    assert {path.name for path in tmp_path.iterdir()} == {"made"}  # no lock file is left


def test_other_folders_do_not_wait(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with paths.alone(tmp_path / "a"), start(tmp_path / "b") as other:
        assert other.stdout
        assert other.stdout.readline() == "in\n"
        other.communicate("")
