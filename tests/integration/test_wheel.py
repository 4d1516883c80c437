# SPDX-License-Identifier: GPL-2.0-only
"""The wheel and the source distribution: what they hold, and that they work without a checkout.

What the installed one builds runs in tests/vm/test_installed.py.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import installed
from installed import Installed

ROOT = Path(__file__).resolve().parents[2]
DATA = ("templates", "kernel", "runtime", "guest")
USED = re.compile(r"paths\.source\(\s*\"(\w+)\"")
SAMPLE = ROOT / "samples/fd_info"


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


def test_what_the_sources_ask_for_is_in_the_wheel() -> None:
    sources = (ROOT / name for name in tracked("kbridge") if name.endswith(".py"))
    used = {name for source in sources for name in USED.findall(source.read_text())}
    assert used <= set(DATA), "name it in pyproject.toml, and here"


def test_the_wheel_of_the_source_distribution_is_the_same(wheel: Path, tmp_path: Path) -> None:
    build = (sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", tmp_path)
    installed.run(*build, cwd=ROOT)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        names = {member.name.partition("/")[2] for member in packed if member.isfile()}
    assert tracked(".") - names == set()
    installed.run("tar", "-xf", archive, "-C", tmp_path)
    source = tmp_path / archive.name.removesuffix(".tar.gz")
    again = tmp_path / "again"
    again.mkdir()
    first, second = zipfile.ZipFile(wheel), zipfile.ZipFile(installed.wheel(again, source))
    assert set(first.namelist()) == set(second.namelist())
    assert not [n for n in first.namelist() if first.read(n) != second.read(n)]


def test_the_installed_one_works_outside_the_checkout(
    from_wheel: Installed, wheel: Path, tmp_path: Path
) -> None:
    (site,) = Path(from_wheel.words[0]).parents[1].glob("lib/python3*/site-packages")
    assert from_wheel("--version", cwd=tmp_path).split() == ["kbridge", wheel.name.split("-")[1]]
    program = f"from kbridge import paths; print(*map(paths.source, {DATA!r}), sep='\\n')"
    python = Path(from_wheel.words[0]).with_name("python")
    found = installed.run(python, "-c", program, cwd=tmp_path).splitlines()
    assert [Path(name) for name in found] == [site / "kbridge/data" / name for name in DATA]
    assert all(Path(name).is_dir() for name in found)
    assert "--root" in from_wheel("run", "--help", cwd=tmp_path)
    assert python.with_name("virtme-run").is_file()  # of host-root


def test_it_builds_a_program_and_a_libkernel(from_wheel: Installed, tmp_path: Path) -> None:
    app, kmod = SAMPLE / "fd_info.c", SAMPLE / "fd_info_kmod.c"
    from_wheel("build", app, "--kmod", kmod, "-o", "fd info", cwd=tmp_path)
    listed = installed.run("readelf", "--dynamic", tmp_path / "fd info")
    assert "libkernel.so" in listed
    from_wheel("gen-libkernel", "-o", "libkernel.so", cwd=tmp_path)
    symbols = installed.run("readelf", "--dyn-syms", "--wide", tmp_path / "libkernel.so")
    assert " ksys_write@LINUX_KERNEL" in symbols


def test_its_rules_for_makefiles(from_wheel: Installed, tmp_path: Path) -> None:
    """They call the kbridge that was asked for them, whichever is on PATH afterwards."""
    rules = from_wheel("--makefile", cwd=tmp_path).strip()
    project = tmp_path / "a project"
    shutil.copytree(ROOT / "samples/makefile", project)
    makefile = project / "Makefile"
    makefile.write_text(makefile.read_text().replace("$(shell kbridge --makefile)", rules))
    said = installed.run("make", "V=1", cwd=project)
    assert f"\n{shlex.quote(str(from_wheel.words[0]))} pic " in said
    assert "libkbridge.so" in installed.run("readelf", "--dynamic", project / "snapshot")
