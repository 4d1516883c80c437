# SPDX-License-Identifier: GPL-2.0-only
"""Gates under load: a million of them by many threads, amid signals, forks, execs and ends.

Each kernel twice: as it boots by itself, and with page-table isolation and full preemption.  The
emulator pays dearly for page tables that change with every gate, so the second boot of the
default run has smaller numbers; a slow test gives it the full ones.  KASLR, SMEP and SMAP are on
in all, which the program checks.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import Kbridge
from guest_shell import Guest, build
from kernel_log import complaints

from kbridge import options
from kbridge.kernels import target

PROGRAMS = Path(__file__).parent / "programs"
KERNELS = [kernel.release for kernel in target.installed()] or ["none installed"]
UNWINDER = "/lib/x86_64-linux-gnu/libgcc_s.so.1"  # pthread_cancel() loads it by itself
HARD = "pti=on preempt=full"  # every stock kernel here has CONFIG_PREEMPT_DYNAMIC


class Numbers(NamedTuple):
    """How often: gates of all threads, programs in turn, programs that are killed."""

    calls: int
    programs: int
    killed: int


FULL = Numbers(1_000_000, 200, 200)


def build_all(
    kbridge: Kbridge, folder: Path, release: str, code: str, links: tuple[str, str]
) -> dict[str, Path]:
    kmod = PROGRAMS / "load_kmod.c"
    built = {}
    for name, link in zip(("load", "load_ends"), links, strict=True):
        how = ["--code", code, "--link", link, "--cflags=-fexceptions"]
        built[name] = build(kbridge, PROGRAMS / f"{name}.c", kmod, folder / name, release, *how)
    library = folder / "load_library.so"
    words = ["--shared", "--kmod", PROGRAMS / "load_library_kmod.c", "-o", library, "--code", code]
    how = ["--kernel", release, "--kcflags=-Wno-missing-prototypes"]
    done = kbridge("build", *words, *how)
    assert done.returncode == 0, done.stderr
    return built | {"library": library}


def stands_load(
    kbridge: Kbridge,
    folder: Path,
    release: str,
    numbers: Numbers,
    append: str = "",
    code: str = "pic",
    links: tuple[str, str] = ("libkernel", "script"),
) -> None:
    built = build_all(kbridge, folder, release, code, links)
    library = built.pop("library")
    lines = {
        "load machine" + " full" * (append == HARD): 7,
        f"load crowd {numbers.calls} {library}": 7,
        "load first": 1,
        "load blocking": 6,
        "load turns": 3,
        "load_ends signals": 11,
        "load_ends killed": 11,
        "load_ends exits": 16,
        "load_ends forks": 71,
        f"load_ends programs {numbers.programs}": 5,
        f"load_ends storm {numbers.killed}": 3,
    }
    commands = {line: built[line.partition(" ")[0]] for line in lines}
    log = folder / "console"
    share = [word for file in (library, UNWINDER) for word in ("--file", f"{file}:{file}")]
    how = ["--cpus", "2", "--append", append, "--timeout", "500", *share]
    said = Guest(kbridge, release).run(commands, log, how=how)
    assert set(said) == set(commands)
    for line, text in said.items():
        assert text.rstrip().endswith("status 0"), f"{line}:\n{text}"
        assert "FAIL" not in text, f"{line}:\n{text}"
        assert text.count("ok ") == lines[line], f"{line}:\n{text}"
    assert not complaints(log)


@pytest.mark.parametrize("release", KERNELS)
def test_a_million_gates_and_200_programs(kbridge: Kbridge, tmp_path: Path, release: str) -> None:
    stands_load(kbridge, tmp_path, release, FULL._replace(killed=40))


@pytest.mark.parametrize("release", KERNELS)
def test_isolated_and_preempted(kbridge: Kbridge, tmp_path: Path, release: str) -> None:
    stands_load(kbridge, tmp_path, release, Numbers(100_000, 10, 20), HARD)


@pytest.mark.slow
@pytest.mark.parametrize("code", options.CODE_MODELS)
@pytest.mark.parametrize("release", KERNELS)
def test_isolated_and_preempted_in_full(
    kbridge: Kbridge, tmp_path: Path, release: str, code: str
) -> None:
    stands_load(kbridge, tmp_path, release, FULL, HARD, code, ("script", "libkernel"))


@pytest.mark.slow
@pytest.mark.parametrize("release", KERNELS)
def test_a_million_gates_of_the_kernel_code_model(
    kbridge: Kbridge, tmp_path: Path, release: str
) -> None:
    stands_load(kbridge, tmp_path, release, FULL, code="kernel")
