# SPDX-License-Identifier: GPL-2.0-only
"""The SCons tool in projects of others: after pip install, in SConscripts, with a CacheDir."""

from __future__ import annotations

import json
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


MISTAKES = [
    ('P("x", code="pci", **OK)', "code=pci: not one of pic, kernel", "did you mean pic?"),
    ('P("x", code=["pic"], **OK)', "code=['pic']: not a string", ""),
    ('P("x", link="foo", **OK)', "link=foo: not one of libkernel, script", ""),
    ('P("x", mitigations="off", **OK)', "mitigations=off: not one of keep, drop", ""),
    ('P("x", allow="stak", **OK)', "allow=stak: not one of constructor", "did you mean stack?"),
    ('P("x", allow=[["stack"], 3], **OK)', "allow=3: not a word", ""),
    ('P("x", kernle="x", **OK)', "unknown word kernle=", "did you mean kernel=?"),
    ('P("x", symbol="x=1", **OK)', "unknown word symbol=", "did you mean choices=?"),
    ('P("x", output="y", **OK)', "unknown word output=", "known: shared, code"),
    ('P("x", kernel=6.1, **OK)', "kernel=6.1: not a string", ""),
    ('P("x", stack_limit="much", **OK)', "stack_limit=much: not a whole number above 0", ""),
    ('P("x", stack_limit=True, **OK)', "stack_limit=True: not a whole number", ""),
    ('P("x", stack_limit=0, **OK)', "stack_limit=0: not a whole number", ""),
    ('P("x", kcflags=\'-D"A\', **OK)', "No closing quotation", "close the quotation"),
    ('P("x", cflags=3, **OK)', "cflags=3: not a word, or a list of words", ""),
    ('P("x", ldflags={}, **OK)', "ldflags={}: not a word", ""),
    ('P("x", include=3, **OK)', "include=3: not a folder", ""),
    ('P("x", include=File("kmod.c"), **OK)', "include=kmod.c: not a folder", ""),
    ('P("x", kdir=[], **OK)', "kdir=[]: not a folder", ""),
    ('P("x", kbuild=3, **OK)', "kbuild=3: not a Kbuild file", ""),
    ('P("x", kbuild=Dir("folder"), **OK)', "kbuild=folder: not a Kbuild file", ""),
    ('P("x", debug="yes", **OK)', "debug=yes: not True or False", ""),
    ('P("x", app=[[3]], kmod="kmod.c")', "app=3: not a file, or a list of files", ""),
    ('P("x", app="", kmod="kmod.c")', "app=: not a file", ""),
    ('P("x", app=Path("nope.c"), kmod="kmod.c")', "nope.c: no such app source", "check the path"),
    ('P("x", app=Path("x"), kmod="kmod.c")', "x: would be replaced", "another target"),
    ('P("x", app=Dir("folder"), kmod="kmod.c")', "folder: a folder", "name its files"),
    ('P("x", app=Value("v"), kmod="kmod.c")', "app=v: not a file", ""),
    ('P("x", app=[], kmod="kmod.c")', "no app source", ""),
    ('P("x", app="app.c", kmod=None)', "no kmod source", ""),
    ('P("x", app="app.c", kmod=b"kmod.c")', "kmod=b'kmod.c': not a file", ""),
    ("P(**OK)", "KBridgeProgram: no file to make", ""),
    ("P(3, **OK)", "target=3: not a file to make", ""),
    ("P([], **OK)", "KBridgeProgram: no file to make", ""),
    ('P(["x", "y"], **OK)', "2 files to make, not one", ""),
    ('P(Dir("folder"), **OK)', "target=folder: not a file to make", ""),
    ('L(None, kmod="kmod.c")', "KBridgeLibrary: no file to make", ""),
    ('L(".", kmod="kmod.c")', "target=.: not a file to make", ""),
    ('L(7, kmod="kmod.c")', "target=7: not a file to make", ""),
    ('L("x", kmod="kmod.c", shared=False)', "KBridgeLibrary: unknown word shared=", ""),
    ('L("x", kmod=[None, 3])', "kmod=3: not a file", ""),
    ("C(3)", "target=3: not a file to make", ""),
    ("C([])", "KBridgeCompileCommands: no file to make", ""),
    ('C(file="x")', "KBridgeCompileCommands: unknown word file=", "known: target"),
]
TRY_ALL = """\
import json
from pathlib import Path
from SCons.Errors import UserError
from kbridge import scons_tool
env = Environment(tools=[scons_tool.generate])
P, L, C = env.KBridgeProgram, env.KBridgeLibrary, env.KBridgeCompileCommands
OK = {"app": "app.c", "kmod": "kmod.c"}
said = []
for call in json.loads(Path("calls").read_text()):
    try:
        eval(call)
        said.append("taken")
    except UserError as problem:
        said.append(str(problem))
Path("said").write_text(json.dumps(said))
"""


def test_mistakes_in_words(tmp_path: Path) -> None:
    """Each is an error of one line and a hint; none is for Python to find in our code."""
    folder = small(tmp_path, TRY_ALL)
    (folder / "folder").mkdir()
    (folder / "calls").write_text(json.dumps([call for call, _, _ in MISTAKES]))
    scons(folder, "-n")
    said = json.loads((folder / "said").read_text())
    for (call, cause, hint), answer in zip(MISTAKES, said, strict=True):
        first, _, second = answer.partition("\nkbridge: hint: ")
        assert cause in first, (call, answer)
        assert second, (call, answer)
        assert hint in second, (call, answer)
        assert "\n" not in first + second, (call, answer)


def small(folder: Path, sconstruct: str) -> Path:
    """A project of two files, whose kmod needs a header and two definitions."""
    (folder / "SConstruct").write_text(sconstruct)
    (folder / "app.c").write_text("int kmod_f(void);\nint main(void) { return kmod_f() - IT; }\n")
    kmod = '#include "it.h"\nint kmod_f(void);\nint kmod_f(void)\n{\n\treturn IT + A + B;\n}\n'
    (folder / "kmod.c").write_text(kmod)
    (folder / "inc").mkdir()
    (folder / "inc/it.h").write_text("#define IT 1\n")
    return folder


WORDS = """\
from pathlib import Path
from kbridge import scons_tool
env = Environment(tools=[scons_tool.generate], FLAGS=Split("-DIT=1 -DC=2"))
env.KBridgeProgram(Path("one"), app=Path("app.c"), kmod=File("kmod.c"), include="inc",
                   kcflags="-DA=1 '-DB=(2 + 3)'", cflags=env["FLAGS"], stack_limit="9000",
                   allow="stack,section", debug="0", kernel=None)
env.KBridgeProgram(File("two"), [["app.c"]], [["kmod.c"], []], include=[Dir("inc"), [Path(".")]],
                   kcflags=[["-DA=1"], "-DB=(2 + 3)"], cflags="-DIT=1", allow=[],
                   ldflags="-Wl,-z,now")
"""


def test_words_of_other_types(tmp_path: Path) -> None:
    """One thing or lists of lists; strings, paths and nodes; a number in a string."""
    folder = small(tmp_path, WORDS)
    said = scons(folder, "V=1")
    assert said.count(" -DA=1 '-DB=(2 + 3)' ") >= 2, said
    assert "-DIT=1 -DC=2" in said
    assert is_elf(folder / "one")
    assert is_elf(folder / "two")
    assert "is up to date" in scons(folder)


CLEAN = """\
from kbridge import scons_tool
env = Environment(tools=[scons_tool.generate])
env.KBridgeLibrary("out/it", kmod=ARGUMENTS["kmod"], link=ARGUMENTS["link"], include="inc",
                   kcflags="-DA=1 -DB=2", debug=ARGUMENTS["link"] == "script")
"""


def test_clean_takes_what_earlier_builds_left(tmp_path: Path) -> None:
    folder = small(tmp_path, CLEAN)
    shutil.copy(folder / "kmod.c", folder / "other.c")
    scons(folder, "kmod=other.c", "link=script")
    scons(folder, "kmod=kmod.c", "link=libkernel")
    assert (folder / "out/.kbridge/libit.so/kmod.lds").exists()
    assert (folder / "out/libit.so.kmod.debug").exists()
    scons(folder, "-c", "kmod=kmod.c", "link=libkernel")
    assert not [path for path in (folder / "out").rglob("*") if path.is_file()]
