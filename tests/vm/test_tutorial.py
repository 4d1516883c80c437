# SPDX-License-Identifier: GPL-2.0-only
"""docs/tutorial.md and the program of docs/index.md, typed exactly as they stand there."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest
from console import Command, follow, steps

from kbridge.kernels import target

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/tutorial.md"
LANDING = ROOT / "docs/index.md"
SET_UP = "\n## Set up\n"
KERNELS = [kernel.release for kernel in target.installed()] or ["none installed"]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def tutorial() -> tuple[str, str]:
    """The set-up, and the rest.  Other tests may be debugging, too: the port is one of our own."""
    page = PAGE.read_text().replace("1234", str(free_port()))
    before, _, after = page.partition(SET_UP)
    set_up, _, rest = after.partition("\n## ")
    assert "$ " not in before
    assert "make setup" in set_up
    return set_up, rest


def environment(release: str) -> dict[str, str]:
    """As after the set-up: with this environment's kbridge, and that kernel as the default one."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {"PATH": path, "KDIR": f"/lib/modules/{release}/build"}


@pytest.mark.parametrize(
    "release", [*(pytest.param(one, marks=pytest.mark.slow) for one in KERNELS[:-1]), KERNELS[-1]]
)
def test_everything_after_the_set_up(tmp_path: Path, release: str) -> None:
    """For each kernel: a reader may have any as the default one."""
    _, rest = tutorial()
    todo = steps(rest)
    assert len([step for step in todo if isinstance(step, Command)]) > 15
    follow(todo, tmp_path / "a folder", environment(release), seconds=800)


def test_the_landing_page(tmp_path: Path) -> None:
    todo = steps(LANDING.read_text())
    assert Command("kbridge run ./myapp", "...\n") in todo
    follow(todo, tmp_path / "a folder", environment(KERNELS[-1]), seconds=300)


@pytest.mark.slow  # it makes a virtual environment of its own
def test_the_set_up(tmp_path: Path) -> None:
    set_up, _ = tutorial()
    clone = {
        "URL": str(ROOT),
        "GIT_CONFIG_COUNT": "1",  # a clone's owner may be another
        "GIT_CONFIG_KEY_0": "safe.directory",
        "GIT_CONFIG_VALUE_0": "*",
    }
    first = "\nkbridge kernels && command -v kbridge"
    todo = [*steps(set_up), Command(first, "...a folder/kbridge/.venv/bin/kbridge\n")]
    follow(todo, tmp_path / "a folder", clone, seconds=800)
