# SPDX-License-Identifier: GPL-2.0-only
"""The Makefile of `kbridge new`: folders with blanks, another kernel, what editors are told.

That the project runs: tests/vm/test_new.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kbridge.kernels.target import KernelTarget

SOURCES = {".gitignore", "Makefile", "README.md", "hello.c", "hello_kmod.c", "hello_kmod.h"}


class Project:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def make(self, *words: str) -> str:
        env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
        command = ["make", *words]
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=env,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert not done.stderr
        return done.stdout

    def names(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}

    def commands(self) -> dict[str, list[str]]:
        """The words with which each source is compiled, as editors are told."""
        entries = json.loads((self.folder / "compile_commands.json").read_text())
        return {Path(entry["file"]).name: entry["arguments"] for entry in entries}


@pytest.fixture
def project(kbridge, tmp_path: Path) -> Project:
    folder = tmp_path / "some where" / "hello"
    folder.parent.mkdir()
    done = kbridge("new", folder)
    assert done.returncode == 0, done.stderr
    return Project(folder)


def test_a_folder_with_a_blank_and_the_name_of_the_image(kbridge, project: Project) -> None:
    project.make("O=my out")
    assert project.names() == {*SOURCES, "compile_commands.json", "my out"}
    report = json.loads(kbridge("inspect", "--json", project.folder / "my out/hello").stdout)
    assert report["image"]["name"] == "hello"  # the program's, as scons has it
    assert "Nothing to be done" in project.make("O=my out")
    (project.folder / "hello_kmod.h").touch()
    assert "-o 'my out/hello.o'" in project.make("O=my out")  # its headers are remembered
    project.make("O=my out", "clean")
    assert project.names() == {*SOURCES, "my out"}
    assert not list((project.folder / "my out").iterdir())


def test_editors_hear_of_another_kernel_and_of_flags(
    project: Project, kernels: list[KernelTarget]
) -> None:
    for kernel in (kernels[0], kernels[-1]):
        flags = "CFLAGS=-O2 -DWHO='\"you and me\"'"
        project.make(f"KERNEL={kernel.release}", flags, "CPPFLAGS=-DFIRST -Iinc")
        told = project.commands()
        assert any(kernel.release in word for word in told["hello_kmod.c"])
        assert {"-DFIRST", '-DWHO="you and me"', "-Iinc"} <= set(told["hello.c"])
        assert any(word.removeprefix("-I") == "inc" for word in told["hello_kmod.c"])
