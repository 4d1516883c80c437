# SPDX-License-Identifier: GPL-2.0-only
"""The Meson recipe, with the real Meson, and libkernel.pc by itself."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Kbridge, is_elf

from kbridge import runtime
from kbridge.kernels.target import KernelTarget

SAMPLE = Path(__file__).parents[2] / "samples/meson"
BIN = Path(sys.executable).parent
PROGRAMS = ("load", "libload.so")


@pytest.fixture(scope="module")
def pkg_config_path(kbridge: Kbridge) -> str:
    done = kbridge("pkg-config-path", "-q", "--libkernel")
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.rstrip("\n")


def run(*words: str | Path, cwd: Path, ok: bool = True, path: str = "") -> str:
    environment = {**os.environ, "PKG_CONFIG_PATH": path, "PATH": f"{BIN}:{os.environ['PATH']}"}
    done = subprocess.run(
        words,
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) == ok, done.stdout + done.stderr
    return done.stdout + done.stderr


def dynamic(program: Path) -> str:
    words = ["readelf", "-d", program]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def test_the_sample(tmp_path: Path, pkg_config_path: str) -> None:
    project = tmp_path / "a project"
    shutil.copytree(SAMPLE, project, ignore=shutil.ignore_patterns("build"))
    run("meson", "setup", "the build", cwd=project, path=pkg_config_path)
    ninja = ("ninja", "-C", "the build", "-j2")
    assert run(*ninja, cwd=project).count("with a custom command") == 3
    for name in PROGRAMS:
        program = project / "the build" / name
        assert is_elf(program)
        shown = dynamic(program)
        assert "[libkernel.so]" in shown
        found = re.search(r"Library rpath: \[(.*)\]", shown)
        assert found
        folders = found[1].split(":")
        assert folders[-1] == runtime.RUN_FOLDER
        # Meson adds folders of its own: in none of them may ld.so find the link stub
        assert not [one for one in folders if Path(one, "libkernel.so").exists()]
    assert "no work to do" in run(*ninja, cwd=project)

    with (project / "average.h").open("a") as header:  # between the kmod's sources only
        header.write("#define ADDED_BY_THE_TEST\n")
    again = run(*ninja, cwd=project)
    assert again.count("with a custom command") == 3
    assert "load.c.o" not in again
    with (project / "average_kmod.c").open("a") as source:
        source.write("static int broken = no_such_thing;\n")
    said = run(*ninja, cwd=project, ok=False)
    assert re.search("no_such_thing. undeclared", said)
    assert "kbridge: hint: see the compiler's words above" in said


def test_libkernel_pc(kbridge: Kbridge, kernels: list[KernelTarget], tmp_path: Path) -> None:
    """A program of objects, linked with pkg-config's words alone, is as `kbridge link` makes it."""
    release = kernels[0].release
    done = kbridge("pkg-config-path", "--kernel", release)
    assert done.returncode == 0, done.stderr
    path = done.stdout.strip()
    assert path.count(":") == 1
    words = run(
        "pkg-config", "--cflags", "--libs", "libkbridge", "libkernel", cwd=tmp_path, path=path
    )
    said = run("pkg-config", "--modversion", "libkernel", cwd=tmp_path, path=path)
    assert release.startswith(said.strip())
    sample = SAMPLE.parent / "fd_info"
    objects = ["kmod.o", "packed.o"]
    for command in (
        ["pic", sample / "fd_info_kmod.c", "-o", "kmod.o", "--kernel", release],
        ["pack", "kmod.o", "-o", "packed.o", "--name", "fd_info"],
    ):
        done = kbridge(*command, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    gcc = ["gcc", sample / "fd_info.c", objects[1]]
    for order in (shlex.split(words), ["-Wl,--as-needed", *shlex.split(words)]):
        run(*gcc, *order, "-o", "program", cwd=tmp_path)
        shown = dynamic(tmp_path / "program")
        assert shown.count("[libkernel.so]") == 1
        assert f"(RPATH)              Library rpath: [{runtime.RUN_FOLDER}]" in shown
        assert "RUNPATH" not in shown
    done = kbridge("inspect", tmp_path / "program")
    assert done.returncode == 0, done.stderr
    assert release in done.stdout


def test_pkg_config_path_of_no_such_kernel(kbridge: Kbridge) -> None:
    done = kbridge("pkg-config-path", "--kernel", "6.1.0-nowhere")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no headers for kernel 6.1.0-nowhere" in done.stderr


def test_libs_into_a_file(kbridge: Kbridge, tmp_path: Path) -> None:
    """Compilers take it as @FILE; it is written again, and what is not ours is not replaced."""
    for _ in range(2):
        done = kbridge("libs", "-q", "-o", tmp_path / "new/words")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "new/words").read_text() == kbridge("libs").stdout
    (tmp_path / "mine.c").write_text("int main(void);\n")
    done = kbridge("libs", "-o", tmp_path / "mine.c")
    assert done.returncode == 2
    assert (tmp_path / "mine.c").read_text() == "int main(void);\n"
