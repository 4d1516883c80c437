# SPDX-License-Identifier: GPL-2.0-only
"""What kbridge new makes: it builds and runs at once, by the two commands of its README."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kbridge.kernels import target


@pytest.mark.parametrize(
    ("build", "which"), [("make", 0), pytest.param("scons", -1, marks=pytest.mark.slow)]
)
def test_new_build_run(
    kbridge, kernels: list[target.KernelTarget], tmp_path: Path, build: str, which: int
) -> None:
    release = kernels[which].release
    folder = tmp_path / "some where" / "hello-kernel"
    folder.parent.mkdir()
    done = kbridge("new", "--build", build, "--kernel", release, folder)
    assert done.returncode == 0, done.stderr
    commands = re.findall(r"^    (.+)$", (folder / "README.md").read_text(), re.MULTILINE)
    assert len(commands) == 2
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for command in commands:
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert re.search(rf"^kernel +{re.escape(release)}$", done.stdout, re.MULTILINE)
    assert re.search(r"^process +\d+, one of \d+$", done.stdout, re.MULTILINE)
    assert re.search(r"task_struct 0xff[0-9a-f]{14}$", done.stdout, re.MULTILINE)
    check = ["clangd-16", "--check=hello-kernel_kmod.c"]
    seen = subprocess.run(
        check, cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert "0 errors" in seen.stderr
    clean = {"make": ["make", "clean"], "scons": ["scons", "-c"]}[build]
    subprocess.run(clean, cwd=folder, env=environment, check=True, capture_output=True, timeout=600)
    left = {path.name for path in folder.rglob("*") if path.is_file()}
    assert left - {".sconsign.dblite"} == {
        "hello-kernel.c",
        "hello-kernel_kmod.c",
        "hello-kernel_kmod.h",
        "README.md",
        ".gitignore",
        {"make": "Makefile", "scons": "SConstruct"}[build],
    }
