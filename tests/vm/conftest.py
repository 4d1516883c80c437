# SPDX-License-Identifier: GPL-2.0-only
"""Fixtures for tests that boot: every boot is bounded, and its kernel's log is read afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from conftest import Kbridge
from kernel_log import complaints

from kbridge import paths

SECONDS = "120"
OLD_SECONDS = 20 * 3600


@pytest.fixture(scope="session", autouse=True)
def no_old_states() -> None:
    """A saved state of yesterday is said not to be used, where a test reads stderr."""
    for manifest in paths.cache_place("states").glob("*/manifest"):
        if time.time() - manifest.stat().st_mtime > OLD_SECONDS:
            shutil.rmtree(manifest.parent)


class Guest(Protocol):
    """Runs `kbridge run` with a time limit; keywords go to subprocess.run."""

    def __call__(self, *args: str | Path, **how: Any) -> subprocess.CompletedProcess[Any]: ...


@pytest.fixture
def console_log(tmp_path: Path) -> Path:
    """Where the guest's kernel log of this test is."""
    return tmp_path / "console.log"


@pytest.fixture
def guest(kbridge: Kbridge, console_log: Path) -> Guest:
    """kbridge run; the test reads `console_log` itself, as where it makes the kernel panic."""

    def run(*args: str | Path, **how: Any) -> subprocess.CompletedProcess[Any]:
        env = {**os.environ, **how.pop("env", {}), "KBRIDGE_CONSOLE_LOG": str(console_log)}
        return kbridge("run", "--timeout", SECONDS, *args, env=env, **how)

    return run


@pytest.fixture
def quiet_guest(guest: Guest, console_log: Path) -> Iterator[Guest]:
    """As `guest`; afterwards no kernel must have complained."""
    found: list[str] = []

    def run(*args: str | Path, **how: Any) -> subprocess.CompletedProcess[Any]:
        console_log.unlink(missing_ok=True)
        done = guest(*args, **how)
        if console_log.exists():
            found.extend(complaints(console_log))
        return done

    yield run
    assert not found
