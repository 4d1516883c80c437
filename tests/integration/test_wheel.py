# SPDX-License-Identifier: GPL-2.0-only
"""The wheel: what it holds, and that it works where there is no checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DATA = ("templates", "kernel", "runtime", "guest")


def run(*argv: str | Path, cwd: Path, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, *argv],
        cwd=cwd,
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    offline = ("--no-deps", "--no-index", "--no-build-isolation")
    run("-m", "pip", "wheel", "-q", *offline, "--wheel-dir", folder, ROOT, cwd=folder)
    (made,) = folder.iterdir()
    return made


def tracked(folder: str) -> set[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", folder],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(filter(None, listed.stdout.split("\0")))


def test_wheel_holds_every_source(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert tracked("kbridge") <= names
    for folder in DATA:
        expected = {f"kbridge/data/{name}" for name in tracked(folder)}
        assert expected, f"{folder}/ has no tracked file"
        assert expected <= names


def test_wheel_holds_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert not [n for n in names if n.partition("/")[0] not in ("kbridge", dist_info(wheel))]
    assert not [n for n in names if {"tests", "samples", "bench"} & set(Path(n).parts)]
    assert not [n for n in names if n.endswith((".o", ".ko", ".so", ".cmd", ".pyc"))]
    assert f"{dist_info(wheel)}/licenses/LICENSE" in names


def dist_info(wheel: Path) -> str:
    return "-".join(wheel.name.split("-")[:2]) + ".dist-info"


def test_wheel_works_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "the site"
    install = ("-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", site)
    run(*install, wheel, cwd=tmp_path)
    version = run("-m", "kbridge", "--version", cwd=tmp_path, PYTHONPATH=str(site))
    assert wheel.name.split("-")[1] in version
    program = f"from kbridge import paths; print(*map(paths.source, {DATA!r}), sep='\\n')"
    found = run("-c", program, cwd=tmp_path, PYTHONPATH=str(site)).splitlines()
    assert [Path(name) for name in found] == [site / "kbridge/data" / name for name in DATA]
    assert all(Path(name).is_dir() for name in found)
