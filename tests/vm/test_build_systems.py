# SPDX-License-Identifier: GPL-2.0-only
"""The sample projects of SCons, CMake and Meson, each built by its own tool, in one boot."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from conftest import Kbridge, Record
from guest_shell import Guest
from kernel_log import complaints

from kbridge.kernels import target

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
BUILDS = {
    "scons": ["scons -Q -j2"],
    "cmake": ['cmake -S . -B build -Dkbridge_DIR="$(kbridge cmake-dir)"', "cmake --build build"],
    "meson": [
        'PKG_CONFIG_PATH="$(kbridge pkg-config-path --libkernel)" meson setup build',
        "ninja -C build",
    ],
}
PROGRAMS = {
    "scons": ("census", r"(\d+) processes, (\d+) of them kernel threads"),
    "cmake": ("uptime", r"up for \d+ s, [1-9]\d* context switches"),
    "meson": ("load", r"2 processors, load \d+\.\d\d"),
}


def test_each_sample_by_its_own_tool(
    kbridge: Kbridge, tmp_path: Path, record_property: Record
) -> None:
    """As their build files and docs say it, for the kernel that is built for when none is named."""
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    commands = {}
    for tool, lines in BUILDS.items():
        project = tmp_path / f"a {tool} project"
        shutil.copytree(ROOT / "samples" / tool, project, ignore=shutil.ignore_patterns("build"))
        for line in lines:
            subprocess.run(["sh", "-ec", line], cwd=project, env=environment, check=True)
        name, _ = PROGRAMS[tool]
        commands[name] = project / "build" / name
    log = tmp_path / "console"
    release = target.find().release
    record_property("kernel", release)
    said = Guest(kbridge, release).run(commands, log)
    for name, form in PROGRAMS.values():
        assert re.fullmatch(form + r"\nstatus 0\n", said[name]), said[name]
    assert not complaints(log)
