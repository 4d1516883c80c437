# SPDX-License-Identifier: GPL-2.0-only
"""kbridge build -g and scons debug=1: gdb reads what they write."""

from __future__ import annotations

import re
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


def shows_the_source(file: Path) -> None:
    words = ["-ex", "info line cr3", "-ex", "disassemble /s cr3"]
    said = subprocess.run(
        ["gdb", "-nx", "-batch", *words, file],
        capture_output=True,
        text=True,
        check=True,
        cwd=file.parent,
    ).stdout
    assert re.match(r'Line \d+ of ".*cr3_kmod\.c" starts at address 0x\w+ <cr3>', said), said
    # the instruction beside its line
    assert re.search(r"\n(\d+)\t\tasm volatile\(.*\n +0x\w+ <\+\d+>:\tmov +%cr3,", said), said


def breaks_at_the_gate(program: Path) -> None:
    """An ordinary gdb takes a gate for its function, and finds the kmod nowhere else."""
    said = subprocess.run(
        ["gdb", "-nx", "-batch", "-ex", "break cr3", "-ex", "list cr3", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=program.parent,
    ).stdout
    stop = re.match(r"Breakpoint 1 at (0x\w+): file .*cr3_kmod\.c, line \d+\.\n", said)
    assert stop, said
    listed = subprocess.run(["nm", program], capture_output=True, text=True, check=True).stdout
    (gate,) = re.findall(r"^(\w+) T cr3$", listed, re.MULTILINE)
    assert 0 <= int(stop[1], 16) - int(gate, 16) <= 8  # behind its endbr64 and push
    assert "\tunsigned long value;" in said


@pytest.mark.parametrize("code", options.CODE_MODELS)
def test_kbridge_build(
    kbridge: Kbridge, kernels: list[KernelTarget], tmp_path: Path, code: str
) -> None:
    for kernel in kernels:
        out = tmp_path / kernel.release
        words = ["build", APP, "--kmod", KMOD, "--kernel", kernel.release, "--code", code]
        done = kbridge(*words, "-g", "-o", out)
        assert done.returncode == 0, done.stderr
        shows_the_source(tmp_path / f"{kernel.release}.kmod.debug")
        breaks_at_the_gate(out)


def test_scons(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "SCons", "-Q", "-C", ROOT, f"out={tmp_path}"]
    command += [f"app={APP}", f"kmod={KMOD}"]

    def scons(*words: str) -> str:
        done = subprocess.run([*command, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    file = tmp_path / "cr3.kmod.debug"
    scons()
    assert not file.exists()
    assert "KCC" in scons("debug=1")  # with the places of local variables
    shows_the_source(file)
    breaks_at_the_gate(tmp_path / "cr3")
    assert "up to date" in scons("debug=1")
    file.unlink()
    scons("debug=1")
    shows_the_source(file)
