# SPDX-License-Identifier: GPL-2.0-only
"""Kmods that clang compiles, on kernels that gcc built: they do what they do by gcc."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Kbridge
from guest_shell import Guest, build
from kernel_log import complaints

from kbridge import options
from kbridge.kernels import target

ROOT = Path(__file__).parents[2]
SPINE = ROOT / "tests/vm/programs/spine.c"
SAMPLES = ("fd_info", "cr3", "ksys_write")
LLVM = "-16"
KERNELS = [kernel.release for kernel in target.installed()] or ["none installed"]


def spine(kbridge: Kbridge, folder: Path, release: str, code: str) -> Path:
    line = folder / f"spine-{code}"
    return build(kbridge, SPINE, SPINE.with_name("spine_kmod.c"), line, release, "--code", code)


def runs_right(kbridge: Kbridge, release: str, programs: dict[str, Path], log: Path) -> None:
    said = Guest(kbridge, release).run(programs, log)
    assert set(said) == set(programs)
    for line, text in said.items():
        assert text.rstrip().endswith("status 0"), f"{line}:\n{text}"
        assert "FAIL" not in text
        assert text.count("ok ") >= (50 if line.startswith("spine") else 0)
    unexpected = complaints(log, expected=["spine test warns", "spine_kmod.c"])
    assert not unexpected, "\n".join(unexpected)


def test_the_newest_kernel(
    kbridge: Kbridge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as only_here:
        only_here.setenv("LLVM", LLVM)
        program = spine(kbridge, tmp_path, KERNELS[-1], "pic")
    runs_right(kbridge, KERNELS[-1], {program.name: program}, tmp_path / "console")


@pytest.mark.slow
@pytest.mark.parametrize("kelevate", ["gcc", "clang"])
@pytest.mark.parametrize("release", KERNELS)
def test_every_kernel_and_code_model(
    kbridge: Kbridge, tmp_path: Path, release: str, kelevate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = {}
    monkeypatch.setenv("LLVM", LLVM)
    for code in options.CODE_MODELS:
        programs[f"spine-{code}"] = spine(kbridge, tmp_path, release, code)
        for sample in SAMPLES:
            app = ROOT / "samples" / sample / f"{sample}.c"
            line, kmod = tmp_path / f"{sample}-{code}", app.with_name(f"{sample}_kmod.c")
            programs[line.name] = build(kbridge, app, kmod, line, release, "--code", code)
    if kelevate == "gcc":
        monkeypatch.delenv("LLVM")
    runs_right(kbridge, release, programs, tmp_path / "console")
