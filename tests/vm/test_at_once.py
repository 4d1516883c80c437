# SPDX-License-Identifier: GPL-2.0-only
"""Several kbridge at the same time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kbridge.kernels import target


def at_once(*words: str) -> list[tuple[int, str, str]]:
    """Status, stdout and stderr of two that are started together."""
    both = [
        subprocess.Popen(
            [sys.executable, "-m", "kbridge", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=800) for process in both]
    return [(process.returncode, *told) for process, told in zip(both, said, strict=True)]


@pytest.mark.parametrize(
    ("verb", "once"),
    [
        ("cflags", "asking Kbuild"),
        pytest.param("kelevate", "building the kelevate module", marks=pytest.mark.slow),
    ],
)
def test_what_both_need_is_made_once(
    kernels: list[target.KernelTarget], temporary_cache: Path, verb: str, once: str
) -> None:
    one, other = at_once(verb, "--kernel", kernels[-1].release)
    assert one[0] == other[0] == 0, (one, other)
    assert one[1] == other[1]
    assert (one[2] + other[2]).count(once) == 1
    assert list(temporary_cache.rglob(".*")) == []


def test_two_runs(kernels: list[target.KernelTarget]) -> None:
    release = kernels[-1].release
    for status, out, err in at_once("run", "--kernel", release, "/bin/uname", "-r"):
        assert (status, out) == (0, f"{release}\n"), err
