# SPDX-License-Identifier: GPL-2.0-only
"""The samples, and the program that calls its kmod in every way, on every installed kernel.

Each boot is a new one with KASLR on; programs that do not need a machine of their own share one.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Kbridge
from guest_shell import Guest, build, console_log_environment
from kernel_log import complaints

from kbridge import options
from kbridge.kernels import target

ROOT = Path(__file__).parents[2]
SPINE = ROOT / "tests/vm/programs/spine.c"
WHERE = ROOT / "tests/vm/programs/where.c"
SAMPLES = ("fd_info", "cr3", "ksys_write")
CODES = options.CODE_MODELS
LINKS = options.LINK_MODES
KERNELS = [kernel.release for kernel in target.installed()] or ["none installed"]


@pytest.mark.parametrize("release", KERNELS)
def test_every_code_model_and_link_mode(kbridge: Kbridge, tmp_path: Path, release: str) -> None:
    """The samples, and spine.c, each built four ways, in one boot."""
    programs = {}
    sources = {"spine": (SPINE, SPINE.with_name("spine_kmod.c"))}
    for sample in SAMPLES:
        folder = ROOT / "samples" / sample
        sources[sample] = (folder / f"{sample}.c", folder / f"{sample}_kmod.c")
    for name, (app, kmod) in sources.items():
        for code in CODES:
            for link in LINKS:
                line = f"{name}-{code}-{link}"
                how = ["--code", code, "--link", link]
                programs[line] = build(kbridge, app, kmod, tmp_path / line, release, *how)
    log = tmp_path / "console"
    said = Guest(kbridge, release).run(programs, log)
    assert set(said) == set(programs)
    for line, text in said.items():
        assert text.rstrip().endswith("status 0"), f"{line}:\n{text}"
        assert "FAIL" not in text
    for line in said:
        if line.startswith("fd_info"):
            assert "the kernel log says: For pid" in said[line]
            assert "file position 15" in said[line]
        elif line.startswith("cr3"):
            assert "privilege level: app 3, kmod 0" in said[line]
        elif line.startswith("ksys_write"):
            assert "Hello World!" in said[line]
        else:
            assert said[line].count("ok ") >= 50
    unexpected = complaints(log, expected=["spine test warns", "spine_kmod.c"])
    assert not unexpected, "\n".join(unexpected)


@pytest.mark.parametrize("release", KERNELS)
def test_faults_and_privileges(kbridge: Kbridge, tmp_path: Path, release: str) -> None:
    kmod = SPINE.with_name("spine_kmod.c")
    program = build(kbridge, SPINE, kmod, tmp_path / "spine", release)
    log = tmp_path / "console"
    lines = ["spine oops", "spine killed", "spine privileges", "spine", "spine disabled"]
    said = Guest(kbridge, release).run(dict.fromkeys(lines, program), log)
    assert said["spine oops"].rstrip().endswith("status 137")
    for line in lines[1:]:
        assert said[line].rstrip().endswith("status 0"), said[line]
    text = log.read_text(errors="replace")
    assert "NULL pointer dereference, address: 0000000000000008" in text
    assert "oops+0x" in text
    assert text.count("kelevate: kb:spine freed") >= 3


@pytest.mark.parametrize("release", KERNELS)
def test_two_images_and_closed_files(kbridge: Kbridge, tmp_path: Path, release: str) -> None:
    programs = SPINE.parent
    how = ["--kernel", release]
    library, app, log = tmp_path / "second.so", tmp_path / "closing", tmp_path / "console"
    words = ["--shared", "--kmod", programs / "closing_library_kmod.c", "-o", library]
    done = kbridge("build", *words, *how, "--kcflags=-Wno-missing-prototypes")
    assert done.returncode == 0, done.stderr
    build(kbridge, programs / "closing.c", programs / "closing_kmod.c", app, release)
    share = ["--timeout", "60", "--file", f"{library}:{library}"]
    done = kbridge("run", *share, app, library, env=console_log_environment(log))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAIL" not in done.stdout
    assert log.read_text(errors="replace").count("kb:second freed") == 4
    assert not complaints(log)


@pytest.mark.parametrize("link", LINKS)
def test_symbols_of_a_module(kbridge: Kbridge, tmp_path: Path, link: str) -> None:
    """The guest loads what the program needs; elsewhere it says which module that is."""
    user = SPINE.with_name("module_user.c")
    kmod = SPINE.with_name("module_user_kmod.c")
    program = build(kbridge, user, kmod, tmp_path / "user", target.find().release, "--link", link)
    done = kbridge("run", "--timeout", "60", program)
    assert (done.returncode, done.stdout) == (0, "fat_time_unix2fat [fat]\n"), done.stderr


def test_a_module_that_is_not_loaded(kbridge: Kbridge, tmp_path: Path) -> None:
    """Run by a shell, so that kbridge does not know what the program needs."""
    user = SPINE.with_name("module_user.c")
    kmod = SPINE.with_name("module_user_kmod.c")
    release = target.find().release
    program = build(kbridge, user, kmod, tmp_path / "user", release)
    said = Guest(kbridge, release).run({"user 2>&1": program}, tmp_path / "console")
    assert "needs a module that is not loaded: fat\n" in said["user 2>&1"]
    assert "hint: load that module first, with modprobe" in said["user 2>&1"]
    assert said["user 2>&1"].endswith("status 125\n")


def test_the_samples_by_scons(kbridge: Kbridge, tmp_path: Path) -> None:
    """As the README says it."""
    for sample in SAMPLES:
        folder = Path("samples", sample)
        sources = [f"app={folder / sample}.c", f"kmod={folder / sample}_kmod.c"]
        command = [sys.executable, "-m", "SCons", "-Q", *sources, f"out={tmp_path}"]
        subprocess.run(command, cwd=ROOT, check=True)
    done = kbridge("run", "--timeout", "120", tmp_path / "fd_info")
    assert done.returncode == 0, done.stderr
    assert "the kernel says: pid" in done.stdout


def test_the_sample_by_make(kbridge: Kbridge, tmp_path: Path) -> None:
    """As docs/makefile.md says it, in a folder of its own."""
    folder = tmp_path / "a copy"
    shutil.copytree(ROOT / "samples/makefile", folder)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(["make", "-j2"], cwd=folder, env={**os.environ, "PATH": path}, check=True)
    done = kbridge("run", "--timeout", "120", "--memory", "512", folder / "snapshot")
    assert done.returncode == 0, done.stderr
    said = r"(\d+) processes with (\d+) threads; (\d+) were .*\n(\d+) MiB of memory, (\d+) of .*\n"
    found = re.fullmatch(said, done.stdout)
    assert found, done.stdout
    processes, threads, started, memory, free = map(int, found.groups())
    assert 1 < processes <= threads <= started
    assert 0 < free < memory < 512


def runs_right(kbridge: Kbridge, program: Path, times: int) -> None:
    seen = set()
    for _ in range(times):
        done = kbridge("run", "--fresh", "--timeout", "120", program)
        assert done.returncode == 0, done.stderr
        assert "ok   kb_symbol" in done.stdout
        seen.add(next(line for line in done.stdout.splitlines() if line.startswith("_text")))
    assert len(seen) > 1, "KASLR gave the same address every time"


def where(kbridge: Kbridge, folder: Path) -> Path:
    release = target.find().release
    return build(kbridge, WHERE, WHERE.with_name("where_kmod.c"), folder / "where", release)


def test_three_boots_with_kaslr(kbridge: Kbridge, tmp_path: Path) -> None:
    runs_right(kbridge, where(kbridge, tmp_path), 3)


@pytest.mark.slow
def test_ten_boots_with_kaslr(kbridge: Kbridge, tmp_path: Path) -> None:
    runs_right(kbridge, where(kbridge, tmp_path), 10)
