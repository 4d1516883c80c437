# SPDX-License-Identifier: GPL-2.0-only
"""The SCons tool in projects of others: after pip install, in SConscripts, with a CacheDir."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import is_elf
from installed import Installed

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "samples/scons"

TOP = """\
from kbridge import scons_tool

env = Environment(tools=["default", scons_tool.generate])
CacheDir("cache")
Export("env")
SConscript("lib/SConscript", variant_dir="out")
"""
INNER = """\
Import("env")
env.KBridgeProgram("app", app=["app.c"], kmod=["kmod.c"], include=["headers"])
"""
KMOD = """\
#include <linux/sched.h>
#include "outer.h"
int kmod_pid(void)
{
	return current->pid + ADDED;
}
"""


def scons(folder: Path, *words: str, python: Path | str = sys.executable) -> str:
    """What SCons says; it must not fail."""
    done = subprocess.run(
        [python, "-m", "SCons", "-Q", *words],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_project_elsewhere_after_pip_install(from_wheel: Installed, tmp_path: Path) -> None:
    python = Path(from_wheel.words[0]).with_name("python")
    project = tmp_path / "a project"
    shutil.copytree(SAMPLE, project, ignore=shutil.ignore_patterns("build", ".scons*"))
    where = "import kbridge, sys; sys.exit(kbridge.__file__.startswith(sys.argv[1]))"
    subprocess.run([python, "-c", where, str(ROOT)], check=True, cwd=project)
    said = scons(project, "-j2", python=python)
    assert said.count("  KCC ") == 4  # two sources, for a program and a library
    assert is_elf(project / "build/census")
    assert is_elf(project / "build/libcensus.so")
    assert "is up to date" in scons(project, python=python)
    with (project / "kernel_threads.h").open("a") as header:
        header.write("#define ADDED_BY_THE_TEST\n")
    said = scons(project, python=python)
    assert said.count("  KCC ") == 4
    assert "census.c" not in said
    scons(project, "-c", python=python)
    assert not [path for path in project.glob("build/**/*") if path.is_file()]


@pytest.fixture
def nested(tmp_path: Path) -> Path:
    """Built in a variant folder, by an SConscript of a folder; a header includes another."""
    folder = tmp_path / "nested project"
    (folder / "lib/headers").mkdir(parents=True)
    (folder / "SConstruct").write_text(TOP)
    (folder / "lib/SConscript").write_text(INNER)
    (folder / "lib/kmod.c").write_text(KMOD)
    (folder / "lib/app.c").write_text('#include "outer.h"\nint main(void) { return kmod_pid(); }\n')
    outer = '#include "inner.h"\nint kmod_pid(void);\n'
    (folder / "lib/headers/outer.h").write_text(outer)
    (folder / "lib/headers/inner.h").write_text("#define ADDED 1\n")
    return folder


def test_cache_dir(nested: Path) -> None:
    first = scons(nested)
    made = (nested / "out/app").read_bytes()
    for label in ("KCC", "CC", "KLD", "GATES", "AS", "LD"):
        assert f"  {label} " in first
    assert "from cache" not in first
    shutil.rmtree(nested / "out")
    second = scons(nested)
    assert second.count("Retrieved `out/") == 11, second
    assert len(second.splitlines()) == 11, second
    assert (nested / "out/app").read_bytes() == made
    assert os.access(nested / "out/app", os.X_OK)


def test_cache_dir_after_a_changed_header(nested: Path) -> None:
    """Also one that only a header includes, and where no dependency file is left to tell."""
    scons(nested)
    (nested / "lib/headers/inner.h").write_text("#define ADDED 2\n")
    shutil.rmtree(nested / "out")
    assert "  KCC " in scons(nested)
    (nested / "lib/headers/inner.h").write_text("#define ADDED 1\n")
    assert "Retrieved `out/app' from cache" in scons(nested)


def test_objects_of_other_builders(tmp_path: Path) -> None:
    """C++ compiled by the SConstruct's own environment is linked as C++."""
    (tmp_path / "SConstruct").write_text(
        "from kbridge import scons_tool\n"
        'env = Environment(tools=["default", scons_tool.generate], CXXFLAGS="-DX=3")\n'
        'env.KBridgeProgram("app", app=[env.Object("app.cc"), "more.c"], kmod="kmod.c")\n'
    )
    (tmp_path / "app.cc").write_text(
        '#include <string>\nextern "C" int kmod_f(int), more(void);\n'
        "int main(int, char **v) { return std::string(v[0]).size() + kmod_f(X) + more(); }\n"
    )
    (tmp_path / "more.c").write_text("int more(void);\nint more(void) { return 1; }\n")
    (tmp_path / "kmod.c").write_text("int kmod_f(int);\nint kmod_f(int a)\n{\n\treturn a;\n}\n")
    assert "-DX=3" in scons(tmp_path, "-j2")
    assert is_elf(tmp_path / "app")
    assert "is up to date" in scons(tmp_path)


def test_mistakes(tmp_path: Path) -> None:
    (tmp_path / "SConstruct").write_text(
        "from kbridge import scons_tool\nenv = Environment(tools=[scons_tool.generate])\n"
        'env.KBridgeProgram("app", app=["app.c"], kmod=["kmod.c"])\n'
    )
    done = subprocess.run(
        [sys.executable, "-m", "SCons", "-Q"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "app.c: no such app source\nkbridge: hint: check the path" in done.stderr
    assert "Traceback" not in done.stderr
