# SPDX-License-Identifier: GPL-2.0-only
"""Compilers behind ccache and distcc: app and kmod really go through them, by their own counts."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import Kbridge

from kbridge.kernels.target import KernelTarget

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "samples/fd_info"
SOURCES = [SAMPLE / "fd_info.c", "--kmod", SAMPLE / "fd_info_kmod.c"]
Factory = pytest.TempPathFactory


def image(program: Path, folder: Path) -> bytes:
    """The kmod's part of a program, without the app's."""
    out = folder / "image"
    subprocess.run(
        ["objcopy", "-O", "binary", "-j", ".kbridge", program, out], check=True, cwd=folder
    )
    return out.read_bytes()


@pytest.fixture(scope="module")
def plain(kbridge: Kbridge, kernels: list[KernelTarget], tmp_path_factory: Factory) -> bytes:
    """The kmod's part of the sample when the compiler is called directly; for the oldest kernel,
    which has objtool write into every object."""
    folder = tmp_path_factory.mktemp("plain")
    done = kbridge("build", *SOURCES, "-o", folder / "fd_info", "--kernel", kernels[0].release)
    assert done.returncode == 0, done.stderr
    return image(folder / "fd_info", folder)


# -- ccache --


@pytest.fixture
def ccache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty one."""
    for name in os.environ:
        if name.startswith("CCACHE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("CCACHE_DIR", str(tmp_path / "a ccache"))
    monkeypatch.setenv("CC", "ccache gcc")


def counts() -> tuple[int, int]:
    """Hits and misses since the last call."""
    shown = subprocess.run(["ccache", "--print-stats"], check=True, capture_output=True, text=True)
    subprocess.run(["ccache", "-z"], check=True, capture_output=True)
    rows = dict(line.split("\t") for line in shown.stdout.splitlines())
    hits = int(rows["direct_cache_hit"]) + int(rows["preprocessed_cache_hit"])
    return hits, int(rows["cache_miss"])


@pytest.mark.usefixtures("ccache")
@pytest.mark.parametrize("code", ["pic", "kernel"])
def test_ccache(
    kbridge: Kbridge, kernels: list[KernelTarget], tmp_path: Path, plain: bytes, code: str
) -> None:
    counts()
    program = tmp_path / "fd_info"
    kernel, images = ["--kernel", kernels[0].release], []
    for expected in ((0, 2), (2, 0)):
        done = kbridge("build", *SOURCES, "--code", code, "-o", program, *kernel)
        assert done.returncode == 0, done.stderr
        assert counts() == expected
        images.append(image(program, tmp_path))
    assert images[0] == images[1]
    assert (images[0] == plain) == (code == "pic")


@pytest.mark.usefixtures("ccache")
def test_objtool_leaves_the_object_in_the_cache_alone(
    kbridge: Kbridge,
    kernels: list[KernelTarget],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    plain: bytes,
) -> None:
    """Where ccache links files instead of copying them; objtool writes into the object."""
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("CCACHE_HARDLINK", "1")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))  # one file system
    for _ in range(3):
        words = [*SOURCES, "-o", tmp_path / "fd_info", "--kernel", kernels[0].release]
        done = kbridge("build", *words)
        assert (done.returncode, done.stderr.count("\n")) == (0, 1), done.stderr
        assert image(tmp_path / "fd_info", tmp_path) == plain
    assert counts() == (4, 2)


@pytest.mark.usefixtures("ccache")
def test_ccache_by_scons(tmp_path: Path) -> None:
    project = tmp_path / "a project"
    shutil.copytree(ROOT / "samples/scons", project)
    shutil.rmtree(project / "build", ignore_errors=True)
    command = [sys.executable, "-m", "SCons", "-Q", "-j2"]
    subprocess.run(command, cwd=project, check=True, stdout=subprocess.DEVNULL)
    # two sources, for each of two outputs; the app's compiler is that of the SConstruct
    assert sum(counts()) == 4
    shutil.rmtree(project / "build")
    subprocess.run(command, cwd=project, check=True, stdout=subprocess.DEVNULL)
    assert counts() == (4, 0)


@pytest.mark.usefixtures("ccache")
def test_ccache_by_make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Kbuild's users write it, on the command line of make."""
    project = tmp_path / "project"
    shutil.copytree(ROOT / "samples/makefile", project)
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    make = ["make", "-s", "-C", project, "CC=ccache gcc"]
    subprocess.run([*make, "clean"], check=True)
    for expected in ((0, 5), (5, 0)):  # three sources of the app, two of the kmod
        subprocess.run([*make, "-j2"], check=True, stdout=subprocess.DEVNULL)
        assert counts() == expected
        subprocess.run([*make, "clean"], check=True)


def test_a_launcher_that_is_not_there(
    kbridge: Kbridge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "sccache gcc")
    done = kbridge("build", *SOURCES, "-o", tmp_path / "fd_info")
    assert done.returncode != 0
    assert "kbridge: error: sccache: not found\n" in done.stderr
    assert not (tmp_path / "fd_info").exists()


# -- distcc --


@dataclass
class Daemon:
    port: int
    log: Path

    def compiled(self) -> list[str]:
        """The sources that it compiled, by its log."""
        ended = re.findall(r"COMPILE_OK .*?\S+ (\S+)$", self.log.read_text(), re.MULTILINE)
        return [Path(name).name for name in ended]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def started(folder: Path, index: int) -> tuple[subprocess.Popen[bytes], Daemon]:
    """A daemon that listens; another port where somebody else was faster."""
    for _ in range(5):
        daemon = Daemon(free_port(), folder / f"daemon{index}.log")
        words = ["--no-detach", "--daemon", "--port", str(daemon.port), "--jobs", "2"]
        words += ["--listen", "127.0.0.1", "--allow", "127.0.0.1", "--lifetime", "600"]
        with daemon.log.open("wb") as log:
            process = subprocess.Popen(
                ["distccd", *words, "--log-stderr", "--log-level", "info"], stderr=log
            )
        while process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", daemon.port)) == 0:
                    return process, daemon
            time.sleep(0.1)
    raise AssertionError(daemon.log.read_text())


@pytest.fixture
def daemons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Daemon]]:
    """Two distccd; the client may not compile by itself."""
    monkeypatch.setenv("DISTCC_DIR", str(tmp_path / "distcc"))
    (tmp_path / "distcc").mkdir()
    monkeypatch.setenv("DISTCC_FALLBACK", "0")
    monkeypatch.setenv("CC", "distcc gcc")
    found = []
    with contextlib.ExitStack() as stack:
        for index in range(2):
            process, daemon = started(tmp_path, index)
            stack.callback(process.wait, 30)
            stack.callback(process.terminate)  # the last that is put there comes first
            found.append(daemon)
        yield found


def test_two_distcc_daemons(
    kbridge: Kbridge,
    kernels: list[KernelTarget],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    plain: bytes,
    daemons: list[Daemon],
) -> None:
    program = tmp_path / "fd_info"
    for order in (daemons, daemons[::-1]):  # the first that is free gets a source
        hosts = [f"127.0.0.1:{daemon.port}/1" for daemon in order]
        monkeypatch.setenv("DISTCC_HOSTS", " ".join(hosts))
        done = kbridge("build", *SOURCES, "-o", program, "--kernel", kernels[0].release)
        assert done.returncode == 0, done.stderr
        assert image(program, tmp_path) == plain
        assert sorted(order[0].compiled()) == ["fd_info.c", "fd_info_kmod.c"]
    project = tmp_path / "a project"
    shutil.copytree(ROOT / "samples/scons", project)
    shutil.rmtree(project / "build", ignore_errors=True)
    command = [sys.executable, "-m", "SCons", "-Q", "-j4"]
    subprocess.run(command, cwd=project, check=True, stdout=subprocess.DEVNULL)
    compiled = [*daemons[0].compiled(), *daemons[1].compiled()]
    expected = 2 * ["fd_info.c", "fd_info_kmod.c", "census_kmod.c", "kernel_threads_kmod.c"]
    assert sorted(compiled) == sorted(expected)
