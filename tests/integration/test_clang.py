# SPDX-License-Identifier: GPL-2.0-only
"""Kmods by clang: how it is asked for, and what is said of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Kbridge

from kbridge import options
from kbridge.kernels.target import KernelTarget

ROOT = Path(__file__).parents[2]
APP = ROOT / "samples/cr3/cr3.c"
KMOD = APP.with_name("cr3_kmod.c")
VERSIONED = "-16"


@pytest.fixture
def unversioned(tmp_path: Path) -> Path:
    """A folder with LLVM's tools by their plain names."""
    folder = tmp_path / "llvm"
    folder.mkdir()
    for name in ("clang", "ld.lld", "llvm-ar", "llvm-nm", "llvm-objcopy", "llvm-strip"):
        found = shutil.which(name + VERSIONED)
        assert found, f"no {name}{VERSIONED}: make setup-tests installs it"
        (folder / name).symlink_to(found)
    return folder


def compiled_by(program: Path) -> bytes:
    content = program.with_name(program.name + ".kmod.debug").read_bytes()
    return b"clang" if b"clang version" in content else b"gcc"


def words(kernel: KernelTarget, out: Path, code: str = "pic") -> list[str | Path]:
    how = ["--kernel", kernel.release, "--code", code]
    return ["build", "-g", APP, "--kmod", KMOD, "-o", out, *how]


@pytest.mark.parametrize("code", options.CODE_MODELS)
def test_clang_compiles_and_the_difference_is_said_in_a_line(
    kbridge: Kbridge,
    kernels: list[KernelTarget],
    tmp_path: Path,
    code: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LLVM", VERSIONED)
    for kernel in kernels:
        out = tmp_path / kernel.release
        done = kbridge(*words(kernel, out, code))
        assert done.returncode == 0, done.stderr
        assert compiled_by(out) == b"clang"
        said = [line for line in done.stderr.splitlines() if "warning" in line]
        assert len(said) == 1, done.stderr
        assert "was built with gcc 1" in said[0]
        assert "is compiled with clang 16." in said[0]


def test_gcc_is_used_and_nothing_said_otherwise(
    kbridge: Kbridge, kernels: list[KernelTarget], tmp_path: Path
) -> None:
    done = kbridge(*words(kernels[-1], tmp_path / "x"))
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    assert compiled_by(tmp_path / "x") == b"gcc"


@pytest.mark.parametrize("as_folder", [pytest.param(False, marks=pytest.mark.slow), True])
def test_plain_names(
    kbridge: Kbridge,
    kernels: list[KernelTarget],
    tmp_path: Path,
    unversioned: Path,
    as_folder: bool,
) -> None:
    """LLVM=1 and LLVM=/folder/, as for Kbuild."""
    env = {**os.environ, "LLVM": f"{unversioned}/"}
    if not as_folder:
        env = {**os.environ, "LLVM": "1", "PATH": f"{unversioned}:{os.environ['PATH']}"}
    done = kbridge(*words(kernels[-1], tmp_path / "x"), env=env)
    assert done.returncode == 0, done.stderr
    assert compiled_by(tmp_path / "x") == b"clang"


def test_a_clang_that_is_not_there(
    kbridge: Kbridge, kernels: list[KernelTarget], tmp_path: Path
) -> None:
    done = kbridge(*words(kernels[-1], tmp_path / "x"), env={**os.environ, "LLVM": "-99"})
    assert done.returncode == 1
    assert "apt-get install clang-99 lld-99 llvm-99" in done.stderr


def test_scons(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "SCons", "-Q", "-C", ROOT, f"out={tmp_path}", "debug=1"]
    command += [f"app={APP}", f"kmod={KMOD}"]

    def scons(**environment: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, **environment}
        return subprocess.run(command, capture_output=True, text=True, check=False, env=env)

    done = scons(LLVM=VERSIONED)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("warning") == 1
    assert compiled_by(tmp_path / "cr3") == b"clang"
    assert "KCC" in scons().stdout
    assert compiled_by(tmp_path / "cr3") == b"gcc"
