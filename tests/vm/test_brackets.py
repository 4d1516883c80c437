# SPDX-License-Identifier: GPL-2.0-only
"""Brackets: a thread's user code in ring 0, and everybody else's in ring 3.

Each kernel twice: as it boots by itself, and with page-table isolation and full preemption.  KASLR,
SMEP and SMAP are on in all, which the program checks.  docs/brackets.md says in words what these
tests show.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import Kbridge
from guest_shell import Guest
from kernel_log import complaints

from kbridge.kernels import target

PROGRAMS = Path(__file__).parent / "programs"
KERNELS = [kernel.release for kernel in target.installed()] or ["none installed"]
UNWINDER = "/lib/x86_64-linux-gnu/libgcc_s.so.1"  # pthread_cancel() loads it by itself
HARD = "pti=on preempt=full"  # every stock kernel here has CONFIG_PREEMPT_DYNAMIC
# what keeps the kernel from the user's code; with page-table isolation its tables do, too
EXECUTED = ("unable to execute userspace code (SMEP?)", "tried to execute NX-protected page")
SOURCES = {"bracket": ["bracket.c", "bracket_leaf.S"], "bracket_ends": ["bracket_ends.c"]}


class Numbers(NamedTuple):
    """How often: loops of a leaf function, brackets of each thread, NMIs, killed processes."""

    leaf: int
    brackets: int
    nmis: int
    killed: int


def build_all(kbridge: Kbridge, folder: Path, release: str) -> dict[str, Path]:
    how = ["--kernel", release, "--kmod", PROGRAMS / "bracket_kmod.c"]
    flags = "--cflags=-O2 -Wall -Werror -fexceptions -pthread"
    for name, sources in SOURCES.items():
        apps = [PROGRAMS / source for source in sources]
        done = kbridge("build", *apps, "-o", folder / name, *how, flags)
        assert done.returncode == 0, done.stderr
    return {name: folder / name for name in SOURCES}


def brackets_hold(
    kbridge: Kbridge, folder: Path, release: str, numbers: Numbers, append: str = ""
) -> None:
    built = build_all(kbridge, folder, release)
    module = kbridge("kelevate", "--kernel", release).stdout.strip()
    # how many checks each has; the last two leave a kernel that is good for nothing else
    lines = {
        "bracket machine": 4,
        "bracket rings": 26,
        f"bracket leaf {numbers.leaf}": 2,
        "bracket memory": 14,
        "bracket calls": 18,
        "bracket kernel": 13,
        f"bracket crowd {numbers.brackets}": 4,
        f"bracket nmis {numbers.nmis}": 7,
        "bracket_ends leaves": 15,
        f"bracket_ends storm {numbers.killed}": 2,
        "bracket_ends stepped": 5,
        "bracket_ends core": 3,
        "bracket_ends rights": 8,
        f"bracket_ends unload {module}": 6,
        "bracket_ends trips": 6,
        "bracket_ends withdrawn": 5,
    }
    commands = {line: built[line.partition(" ")[0]] for line in lines}
    log = folder / "console"
    share = [word for file in (module, UNWINDER) for word in ("--file", f"{file}:{file}")]
    how = ["--cpus", "2", "--append", append, "--timeout", "500", *share]
    said = Guest(kbridge, release).run(commands, log, how=how)
    assert set(said) == set(commands)
    for line, text in said.items():
        status = 125 if line == "bracket kernel" else 0  # it ends by calling a user address
        assert text.rstrip().endswith(f"status {status}"), f"{line}:\n{text}"
        assert "FAIL" not in text, f"{line}:\n{text}"
        assert text.count("ok ") == lines[line], f"{line}:\n{text}"
    _check_log(log)


def _check_log(log: Path) -> None:
    """Four processes tripped over SMAP and SMEP, and nothing else was wrong."""
    text = log.read_text(errors="replace")
    assert sum(text.count(word) for word in EXECUTED) == 2
    assert text.count("dies of a fault in touch+") == 2
    assert "kelevate: cannot elevate: the program uses the GS base" in text
    unexpected = complaints(log, expected=["touch+0x", *EXECUTED])
    assert not unexpected, "\n".join(unexpected)


@pytest.mark.parametrize("release", KERNELS)
def test_brackets(kbridge: Kbridge, tmp_path: Path, release: str) -> None:
    brackets_hold(kbridge, tmp_path, release, Numbers(1_000_000, 2_000, 300, 200))


@pytest.mark.parametrize("release", KERNELS)
def test_isolated_and_preempted(kbridge: Kbridge, tmp_path: Path, release: str) -> None:
    brackets_hold(kbridge, tmp_path, release, Numbers(500_000, 300, 300, 30), HARD)


@pytest.mark.slow
@pytest.mark.parametrize("append", ["", HARD])
@pytest.mark.parametrize("release", KERNELS)
def test_for_long(kbridge: Kbridge, tmp_path: Path, release: str, append: str) -> None:
    numbers = Numbers(20_000_000, 10_000, 5_000, 500)
    brackets_hold(kbridge, tmp_path, release, numbers, append)
