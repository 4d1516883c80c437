# SPDX-License-Identifier: GPL-2.0-only
"""A home folder that cannot be written: what needs the cache says so, and all else works."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kbridge.kernels import target

SAMPLE = Path(__file__).parents[2] / "samples/fd_info"
NEED = {
    "build": [SAMPLE / "fd_info.c", "--kmod", SAMPLE / "fd_info_kmod.c", "-o", "out"],
    "compile-commands": [SAMPLE / "fd_info.c", "--kmod", SAMPLE / "fd_info_kmod.c"],
    "run": ["/bin/true"],
    "kelevate": [],
    "cflags": [],
    "pkg-config-path": [],
    "--makefile": [],
}
DO_WITHOUT = {"kernels": [], "adaptors": [], "new": ["hello"], "completion": ["fish"]}


@pytest.fixture
def nowhere() -> dict[str, str]:
    """An environment whose home not even root can write."""
    unset = ("KBRIDGE_CACHE", "XDG_CACHE_HOME")
    environment = {name: text for name, text in os.environ.items() if name not in unset}
    return {**environment, "HOME": "/proc/nowhere"}


def test_what_needs_the_cache_says_so(kbridge, tmp_path: Path, nowhere: dict[str, str]) -> None:
    for verb, words in NEED.items():
        done = kbridge(verb, *words, cwd=tmp_path, env=nowhere)
        assert done.returncode == (125 if verb == "run" else 1)
        error, hint = done.stderr.splitlines()[-2:]
        assert error.startswith("kbridge: error: cannot make the cache folder /proc/nowhere/")
        assert "KBRIDGE_CACHE" in hint
        assert not done.stdout
    assert list(tmp_path.iterdir()) == []


def test_all_else_works(
    kbridge, kernels: list[target.KernelTarget], tmp_path: Path, nowhere: dict[str, str]
) -> None:
    for verb, words in DO_WITHOUT.items():
        done = kbridge(verb, *words, cwd=tmp_path, env=nowhere)
        assert done.returncode == 0, done.stderr
        if verb == "kernels":
            assert kernels[-1].release in done.stdout
    there = {**nowhere, "KBRIDGE_CACHE": str(tmp_path / "cache")}
    assert kbridge("pkg-config-path", env=there).returncode == 0
