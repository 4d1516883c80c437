# SPDX-License-Identifier: GPL-2.0-only
"""find_package(kbridge) with the real CMake: both generators, out of source, blanks in paths."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import is_elf
from installed import Installed

from kbridge import __version__, paths
from kbridge.kernels.target import KernelTarget

SAMPLE = Path(__file__).parents[2] / "samples/cmake"
KBRIDGE = Path(sys.executable).with_name("kbridge")
GENERATORS = (
    "Ninja",
    pytest.param("Unix Makefiles", marks=pytest.mark.slow),
    pytest.param("Ninja Multi-Config", marks=pytest.mark.slow),
)
HEAD = "cmake_minimum_required(VERSION 3.21)\nproject(p C)\nfind_package(kbridge REQUIRED)\n"


def run(
    *words: str | Path, ok: bool = True, **environment: str
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        ["cmake", *words],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) == ok, done.stdout + done.stderr
    return done


def configure(folder: Path, *words: str, ok: bool = True, **environment: str) -> str:
    """Of the project in `folder`, into its `the build`; what CMake says."""
    where = ["-S", folder, "-B", folder / "the build"]
    found = f"-Dkbridge_DIR={paths.source('templates', 'cmake')}"
    done = run(*where, found, f"-DKBRIDGE_EXECUTABLE={KBRIDGE}", *words, ok=ok, **environment)
    return done.stderr


def build(folder: Path, *words: str, ok: bool = True, **environment: str) -> str:
    done = run("--build", folder / "the build", *words, ok=ok, **environment)
    return done.stdout + done.stderr


def made(said: str) -> list[str]:
    """The kmod's steps in what a build said."""
    lines = [line for line in said.splitlines() if " kernel code" in line]
    return sorted(line.partition("] ")[2] for line in lines)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "a project"
    shutil.copytree(SAMPLE, folder, ignore=shutil.ignore_patterns("build"))
    return folder


@pytest.mark.parametrize("generator", GENERATORS)
def test_the_sample(project: Path, generator: str) -> None:
    configure(project, "-G", generator)
    steps = made(build(project, "-j2"))
    names = ["switches_kmod.c", "switches_kmod.c", "uptime_kmod.c", "uptime_kmod.c"]
    packed = ["Packing kernel code of uptime", "Packing kernel code of uptime-library"]
    assert steps == [*(f"Compiling kernel code {name}" for name in names), *packed]
    programs = [*project.rglob("uptime"), *project.rglob("libuptime.so")]
    assert len(programs) == 2
    assert all(map(is_elf, programs))
    again = build(project)
    assert not made(again)
    assert "Linking" not in again

    with (project / "switches.h").open("a") as header:  # between the kmod's sources only
        header.write("#define ADDED_BY_THE_TEST\n")
    again = build(project)
    assert len(made(again)) == 6
    assert again.count("Linking") == 2
    assert "uptime.c" not in again
    assert not made(build(project))


def test_clean_and_verbose(project: Path) -> None:
    configure(project, "-G", "Unix Makefiles", "-DCMAKE_BUILD_TYPE=Debug")
    said = build(project, "--target", "uptime", "--verbose")
    assert " pic " in said
    assert "--debug" in said
    build(project, "--target", "clean")
    assert not list((project / "the build").rglob("*.kmod/*.o"))


def test_release_and_what_is_asked_for(project: Path, kernels: list[KernelTarget]) -> None:
    """The oldest kernel, by its release and by its folder; options reach kbridge."""
    (project / "CMakeLists.txt").write_text(
        f"{HEAD}add_executable(uptime uptime.c)\n"
        "kbridge_add_kmod(uptime uptime_kmod.c sub/switches_kmod.c INCLUDE_DIRECTORIES .\n"
        "  CODE kernel LINK script MITIGATIONS drop STACK_LIMIT 5000 ALLOW stack\n"
        '  KCFLAGS -DONE=1 "-DTWO=\\"a b\\"")\n'
        f"add_executable(other uptime.c)\n"
        f'kbridge_add_kmod(other uptime_kmod.c sub/switches_kmod.c KDIR "{kernels[0].kdir}"\n'
        '  INCLUDE_DIRECTORIES . KCFLAGS -DONE=1 "-DTWO=\\"a b\\"")\n'
    )
    (project / "sub").mkdir()
    source = project / "switches_kmod.c"
    text = source.read_text() + "\nstatic_assert(ONE == 1 && sizeof(TWO) == 4);\n"
    (project / "sub/switches_kmod.c").write_text(
        text.replace("<linux/k", "<linux/build_bug.h>\n#include <linux/k")
    )
    source.unlink()
    release = kernels[0].release
    configure(project, "-DCMAKE_BUILD_TYPE=Release", f"-DKBRIDGE_KERNEL={release}", KDIR="")
    said = build(project, "--verbose")
    for words in ("--code kernel", "--link script", "--mitigations drop", "--stack-limit 5000"):
        assert words in said
    for name in ("uptime", "other"):
        program = project / "the build" / name
        assert is_elf(program)
        assert release.encode() in program.read_bytes()


def test_another_kernel_in_the_same_folder(project: Path, kernels: list[KernelTarget]) -> None:
    """make itself does not look at commands."""
    how = ["-G", "Unix Makefiles"]
    for kernel in (kernels[0], kernels[-1]):
        configure(project, *how, f"-DKBRIDGE_KERNEL={kernel.release}")
        assert len(made(build(project, "--target", "uptime"))) == 3
        assert kernel.release.encode() in (project / "the build/uptime").read_bytes()
    configure(project, *how)
    assert not made(build(project, "--target", "uptime"))
    with (project / "switches.h").open("a") as header:
        header.write("#define ADDED_BY_THE_TEST\n")
    assert len(made(build(project, "--target", "uptime"))) == 3


def test_an_error_is_shown_whole(project: Path) -> None:
    configure(project)
    with (project / "switches_kmod.c").open("a") as source:
        source.write("static int broken = no_such_thing;\n")
    said = build(project, "--target", "uptime", ok=False)
    assert re.search("no_such_thing. undeclared", said)
    assert "kbridge: error:" in said
    assert "kbridge: hint: see the compiler's words above" in said
    assert "Traceback" not in said


def test_the_compiler_launcher(project: Path, tmp_path: Path) -> None:
    cache = {"CCACHE_DIR": str(tmp_path / "ccache")}
    configure(project, "-DCMAKE_C_COMPILER_LAUNCHER=ccache")
    build(project, "--target", "uptime", **cache)
    build(project, "--target", "clean", **cache)
    subprocess.run(["ccache", "-z"], env={**os.environ, **cache}, check=True, capture_output=True)
    build(project, "--target", "uptime", **cache)
    words = ["ccache", "--print-stats"]
    shown = subprocess.run(
        words, env={**os.environ, **cache}, check=True, capture_output=True, text=True
    )
    rows = dict(line.split("\t") for line in shown.stdout.splitlines())
    assert (rows["direct_cache_hit"], rows["cache_miss"]) == ("3", "0")  # the app and two kmods


def test_a_source_that_is_made(project: Path) -> None:
    (project / "CMakeLists.txt").write_text(
        f"{HEAD}add_custom_command(OUTPUT made_kmod.c DEPENDS switches_kmod.c\n"
        '  COMMAND ${CMAKE_COMMAND} -E copy "${CMAKE_CURRENT_SOURCE_DIR}/switches_kmod.c"'
        " made_kmod.c)\n"
        "add_executable(uptime uptime.c)\n"
        "kbridge_add_kmod(uptime uptime_kmod.c made_kmod.c INCLUDE_DIRECTORIES .)\n"
    )
    configure(project)
    build(project)
    assert is_elf(project / "the build/uptime")
    assert not made(build(project))


MISTAKES = {
    "a mistyped source": (
        "add_executable(p a.c)\nkbridge_add_kmod(p kk.c)",
        "no such source: /",
    ),
    "no target": ("kbridge_add_kmod(p k.c)", "no target p; add_executable(p ...)"),
    "a static library": (
        "add_library(p STATIC a.c)\nkbridge_add_kmod(p k.c)",
        "p is neither a program nor a shared library",
    ),
    "twice": (
        "add_executable(p a.c)\nkbridge_add_kmod(p k.c)\nkbridge_add_kmod(p a.c)",
        "p has a kmod; name all sources in one call",
    ),
    "no source": ("add_executable(p a.c)\nkbridge_add_kmod(p)", "no kmod source for p"),
    "a mistyped word": (
        "add_executable(p a.c)\nkbridge_add_kmod(p k.c INCLUDES a)",
        "INCLUDES: neither a word that it knows nor a file",
    ),
    "a mistyped word behind a list": (
        "add_executable(p a.c)\nkbridge_add_kmod(p k.c ALLOW stack KFLAGS -DA)",
        "KFLAGS: neither a word that it knows nor a file",
    ),
    "a mistyped choice": (
        "add_executable(p a.c)\nkbridge_add_kmod(p k.c CODE pick)",
        "CODE pick: CODE pic|kernel",
    ),
    "no value": (
        "add_executable(p a.c)\nkbridge_add_kmod(p k.c KERNEL)",
        "no word after KERNEL",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(tmp_path: Path, name: str) -> None:
    text, said = MISTAKES[name]
    (tmp_path / "CMakeLists.txt").write_text(HEAD + text + "\n")
    for file in ("a.c", "k.c"):
        (tmp_path / file).write_text("int main(void);\n")
    assert said in " ".join(configure(tmp_path, ok=False).split())


def test_versions(tmp_path: Path) -> None:
    for wanted, good in ((__version__, True), ("0.1", True), ("0.2", False), ("1", False)):
        text = HEAD.replace("kbridge REQUIRED", f"kbridge {wanted} REQUIRED")
        (tmp_path / "CMakeLists.txt").write_text(text)
        shutil.rmtree(tmp_path / "the build", ignore_errors=True)
        configure(tmp_path, ok=good)


def test_names_that_look_alike(project: Path) -> None:
    """a/b.c and a_b.c are two objects."""
    (project / "a").mkdir()
    for name, function in (("a/b.c", "one"), ("a_b.c", "other")):
        text = f"int {function}(void);\nint {function}(void) {{ return 1; }}\n"
        (project / name).write_text(text)
    (project / "CMakeLists.txt").write_text(
        f"{HEAD}add_library(p SHARED)\nkbridge_add_kmod(p a/b.c a_b.c)\n"
    )
    configure(project)
    assert len(made(build(project))) == 3
    shown = subprocess.run(
        ["readelf", "-W", "--dyn-syms", project / "the build/libp.so"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert {"one", "other"} <= set(shown.stdout.split())


@pytest.mark.parametrize("fails", ["exit 3", "echo '{\"kernels\": []}'"])
def test_an_optional_kbridge(tmp_path: Path, fails: str) -> None:
    """One that cannot work here is not found, and says why who asks for it by REQUIRED."""
    command = tmp_path / "kbridge"
    command.write_text(f"#!/bin/sh\necho 'kbridge: error: none of it' >&2\n{fails}\n")
    command.chmod(0o755)
    how = f"-DKBRIDGE_EXECUTABLE={command}"
    text = HEAD.replace("kbridge REQUIRED", "kbridge QUIET")
    (tmp_path / "CMakeLists.txt").write_text(
        f'{text}if(kbridge_FOUND)\nmessage(FATAL_ERROR "found")\nendif()\n'
    )
    configure(tmp_path, how, KDIR="")
    (tmp_path / "CMakeLists.txt").write_text(HEAD)
    said = configure(tmp_path, how, ok=False, KDIR="")
    assert ("none of it" if "exit" in fails else "no kernel headers here") in said


def test_a_kernel_that_is_not_here(project: Path) -> None:
    configure(project, "-DKBRIDGE_KERNEL=6.1.0-nowhere")
    said = build(project, "--target", "uptime", ok=False)
    assert "no headers for kernel 6.1.0-nowhere" in said


def test_after_pip_install(from_wheel: Installed, project: Path, tmp_path: Path) -> None:
    """The kbridge of the environment whose kbridgeConfig.cmake it is, not that of PATH."""
    command = Path(from_wheel.words[0])
    other = tmp_path / "bin/kbridge"
    other.parent.mkdir()
    other.write_text("#!/bin/false\n")
    other.chmod(0o755)
    folder = Path(from_wheel("cmake-dir", cwd=project).rstrip("\n"))
    assert command.parents[1] in folder.parents
    path = f"{other.parent}:{os.environ['PATH']}"
    run("-S", project, "-B", project / "the build", f"-Dkbridge_DIR={folder}", PATH=path)
    cache = (project / "the build/CMakeCache.txt").read_text()
    used = re.search("^KBRIDGE_EXECUTABLE:FILEPATH=(.*)$", cache, re.MULTILINE)
    assert used
    assert Path(used[1]).resolve() == command.resolve()
    build(project, "--target", "uptime")
    assert is_elf(project / "the build/uptime")
