# SPDX-License-Identifier: GPL-2.0-only
"""Several kbridge at the same time, in a cache that is empty."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from kbridge.kernels import image as images
from kbridge.kernels import target


def test_two_runs_at_once(
    kernels: list[target.KernelTarget], temporary_cache: Path, tmp_path: Path
) -> None:
    """What both need is made once, and both programs run."""
    release = kernels[-1].release
    found = images.find(release).vmlinuz  # into the empty cache, if it is not in /boot
    assert found.is_file()
    command = [sys.executable, "-m", "kbridge", "run", "--kernel", release, "/bin/uname", "-r"]
    environment = {**os.environ, "KBRIDGE_CACHE": str(temporary_cache)}
    both = [
        subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=800) for process in both]
    assert [out for out, _ in said] == [f"{release}\n"] * 2, said
    assert [process.returncode for process in both] == [0, 0]
    together = "".join(err for _, err in said)
    assert together.count("asking Kbuild") == 1
    assert together.count("building the kelevate module") == 1
    left = list(temporary_cache.rglob(".*"))
    assert left == []
