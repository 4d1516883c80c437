# SPDX-License-Identifier: GPL-2.0-only
"""What an installed kbridge built runs under that very kbridge: the wheel's, the package's."""

from __future__ import annotations

import re
from pathlib import Path

import installed
import pytest
from installed import Installed
from kernel_log import complaints

SAMPLE = Path(__file__).resolve().parents[2] / "samples/fd_info"
SAID = re.compile(
    r"the kernel says: pid (\d+) \(getpid\(\) says \1\), file position 15 of fd \d+\n"
)


def build_and_run(tool: Installed, folder: Path) -> None:
    app, kmod = SAMPLE / "fd_info.c", SAMPLE / "fd_info_kmod.c"
    tool("build", app, "--kmod", kmod, "-o", "fd_info", cwd=folder)
    log = folder / "console.log"
    said = tool("run", "--timeout", "120", "./fd_info", cwd=folder, KBRIDGE_CONSOLE_LOG=str(log))
    assert SAID.match(said), said
    assert not complaints(log)


def test_the_wheel(from_wheel: Installed, tmp_path: Path) -> None:
    build_and_run(from_wheel, tmp_path)


def test_the_debian_package(packaged: Path, tmp_path: Path) -> None:
    build_and_run(installed.of_tree(packaged), tmp_path)


@pytest.mark.slow
def test_the_debian_package_has_what_root_host_takes(packaged: Path, tmp_path: Path) -> None:
    said = installed.of_tree(packaged)("run", "--root", "host", "/bin/echo", "there", cwd=tmp_path)
    assert said == "there\n"
