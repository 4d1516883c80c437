# SPDX-License-Identifier: GPL-2.0-only
"""kelevate builds for kernels that lack what user code in ring 0 hangs on: with gates alone."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from kbridge.kernels import target

SOURCE = Path(__file__).resolve().parents[2] / "kernel" / "kelevate"
KERNELS = target.installed()


@pytest.mark.parametrize("kernel", KERNELS, ids=[kernel.release for kernel in KERNELS])
@pytest.mark.parametrize("without", ["CONFIG_USER_RETURN_NOTIFIER", "CONFIG_TRACEPOINTS"])
def test_without_hooks(kernel: target.KernelTarget, without: str, tmp_path: Path) -> None:
    folder = tmp_path / "kelevate"
    shutil.copytree(SOURCE, folder)
    done = subprocess.run(
        ["make", "-s", "-C", kernel.kdir, f"M={folder}", f"{without}=", "modules"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    names = subprocess.run(
        ["nm", folder / "kelevate.ko"], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    assert " T elevate\n" in names
    assert "kelevate_to_ring0" not in names
