# SPDX-License-Identifier: GPL-2.0-only
"""Fixtures that tests of every kind share.

What was downloaded or built for a kernel is dear: tests use the user's own cache, unless they
ask for `temporary_cache`.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import installed
import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import settings

from kbridge.kernels import target

# Times are not tested, least of all on a busy machine.
settings.register_profile("kbridge", settings(), deadline=None)
settings.load_profile("kbridge")

# record_property: a test that boots one kernel, not named in its parameters, says so to
# scripts/pages/support.py
Record = Callable[[str, object], None]


class Kbridge(Protocol):
    """Runs the kbridge command of this environment; more keywords go to subprocess.run."""

    def __call__(
        self, *args: str | Path, timeout: float = 600, **how: Any
    ) -> subprocess.CompletedProcess[str]: ...


@pytest.fixture(scope="session")
def kbridge() -> Kbridge:
    def run(
        *args: str | Path, timeout: float = 600, **how: Any
    ) -> subprocess.CompletedProcess[str]:
        if "input" not in how:
            how.setdefault("stdin", subprocess.DEVNULL)
        how = {"capture_output": True, "text": True, **how}
        command = [sys.executable, "-m", "kbridge", *args]
        return subprocess.run(command, timeout=timeout, check=False, **how)

    return run


def is_elf(path: Path) -> bool:
    """Whether it is a program or library, as a linker leaves it."""
    with path.open("rb") as stream:
        return str(ELFFile(stream)["e_type"]) in ("ET_DYN", "ET_EXEC")


@pytest.fixture(scope="session")
def kernels() -> list[target.KernelTarget]:
    """Every kernel with headers, oldest first.  None at all is a failure, not a skip."""
    found = target.installed()
    assert found, "no kernel headers installed; make setup installs them"
    return found


@pytest.fixture
def temporary_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for this test alone, also for the commands that it runs."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("KBRIDGE_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The Debian packages, and their .changes and .buildinfo."""
    return installed.debian_packages(tmp_path_factory.mktemp("deb"))


@pytest.fixture(scope="session")
def packaged(packages: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the Debian packages, unpacked."""
    return installed.unpacked(packages, tmp_path_factory.mktemp("packaged") / "a tree")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed.wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def from_wheel(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> installed.Installed:
    """kbridge[host-root] in an environment of its own."""
    return installed.in_an_environment(wheel, tmp_path_factory.mktemp("venv") / "an environment")
