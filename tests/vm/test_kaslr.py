# SPDX-License-Identifier: GPL-2.0-only
"""One binary runs right wherever a boot puts the kernel, and wherever a module is loaded."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import Kbridge
from guest_shell import LIBRARIES, build, console_log_environment
from kernel_log import complaints

from kbridge import options
from kbridge.kernels import image as images
from kbridge.kernels import target
from kbridge.vm import modules

PROGRAMS = Path(__file__).parent / "programs"
KERNELS = [kernel.release for kernel in target.installed()] or ["none installed"]
AT_A_TIME = 2  # guests
FAT = "fat"
# small ones, of which each takes a part of the hole that fat has left
FILLERS = ("crc7", "mac-celtic", "mac-gaelic")
LAST = "mac-inuit"


class Boots:
    """Boots a kernel, each time anew, and runs programs by a shell."""

    def __init__(self, kbridge: Kbridge, release: str, folder: Path) -> None:
        self.kbridge = kbridge
        self.release = release
        self.folder = folder

    def run(self, number: int, files: Sequence[Path | str], *lines: str) -> str:
        """What the lines printed, after the kernel's command line."""
        log = self.folder / f"console.{number}"
        share = [word for file in (*LIBRARIES, *files) for word in ("--file", f"{file}:{file}")]
        # the number of CPUs moves per-CPU areas, which the kernel's own slide does not
        how = ["--fresh", "--kernel", self.release, "--timeout", "120"]
        how += ["--cpus", str(1 + number % 2), *share]
        script = "\n".join(["cat /proc/cmdline", f"cd {self.folder}", *lines])
        shell = ["/bin/busybox", "sh", "-c", script]
        done = self.kbridge("run", *how, *shell, env=console_log_environment(log))
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr
        assert "nokaslr" not in done.stdout.splitlines()[0]
        assert "FAIL" not in done.stdout, done.stdout
        assert not complaints(log)
        return done.stdout


@pytest.fixture
def boots(kbridge: Kbridge, release: str, tmp_path: Path) -> Boots:
    folder = tmp_path / "kaslr"
    folder.mkdir()
    return Boots(kbridge, release, folder)


def library(boots: Boots, name: str, *words: str | Path) -> Path:
    out = boots.folder / f"{name}.so"
    how = ["--shared", *words, "-o", out, "--kernel", boots.release]
    done = boots.kbridge("build", *how)
    assert done.returncode == 0, done.stderr
    return out


def runs_right(boots: Boots, times: int) -> None:
    """The same files in every boot; at the end they are as they were built."""
    app, kmod = PROGRAMS / "kaslr.c", PROGRAMS / "kaslr_kmod.c"
    programs, libraries = [], []
    for link, code in zip(options.LINK_MODES, options.CODE_MODELS, strict=True):
        how = ["--link", link, "--code", code]
        programs.append(build(boots.kbridge, app, kmod, boots.folder / link, boots.release, *how))
        later = ["--kmod", kmod, "--kcflags=-DLATER", *how]
        libraries.append(library(boots, f"later-{link}", *later))
    made = [*programs, *libraries]
    content = [path.read_bytes() for path in made]
    # each loads the library that is linked in the other way
    pairs = zip(programs, reversed(libraries), strict=True)
    lines = [f"./{one.name} ./{other.name} || echo FAIL" for one, other in pairs]
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        said = list(pool.map(lambda number: boots.run(number, made, *lines), range(times)))
    slides = [re.findall(r"^slide ([0-9a-f]+)$", text, re.MULTILINE) for text in said]
    assert all(len(set(one)) == 1 and len(one) == len(lines) for one in slides), slides
    assert all(text.count("\n0 failures\n") == len(lines) for text in said)
    seen = {int(one[0], 16) for one in slides}
    assert len(seen) > 1, f"KASLR gave the same address every time: {slides}"
    assert all(slide % (2 << 20) == 0 for slide in seen)
    assert content == [path.read_bytes() for path in made]


@pytest.mark.parametrize("release", KERNELS[-1:])
def test_ten_boots(boots: Boots) -> None:
    runs_right(boots, 10)


@pytest.mark.parametrize("release", KERNELS[:-1])
def test_boots_of_the_older_kernels(boots: Boots) -> None:
    runs_right(boots, 4)


@pytest.mark.slow
@pytest.mark.parametrize("release", KERNELS[:-1])
def test_ten_boots_of_the_older_kernels(boots: Boots) -> None:
    runs_right(boots, 10)


@pytest.mark.parametrize("release", KERNELS)
def test_a_module_that_moves(boots: Boots) -> None:
    """A program runs right after each load of the module, and holds it as long as it runs; one
    that goes on finds it anew with each dlopen() of its library."""
    moves, kmod = PROGRAMS / "module_moves.c", PROGRAMS / "module_moves_kmod.c"
    for link in options.LINK_MODES:
        build(boots.kbridge, moves, kmod, boots.folder / link, boots.release, "--link", link)
    late = library(boots, "late", "--kmod", kmod)
    reloads = boots.folder / "reloads"
    subprocess.run(["gcc", "-O2", PROGRAMS / "module_reloads.c", "-o", reloads], check=True)
    names = (FAT, *(name.replace("-", "_") for name in (*FILLERS, LAST)))
    for file in modules.needed(images.find(boots.release).modules, names):
        unpacked = boots.folder / f"{file.name.partition('.ko')[0]}.ko"
        unpacked.write_bytes(modules.content(file))
    lines = []
    for filler in (*FILLERS, None):
        lines.append(f"insmod ./{FAT}.ko || echo FAIL")
        lines += [f"./{link} || echo FAIL" for link in options.LINK_MODES]
        lines.append(f"rmmod {FAT} || echo FAIL")
        lines += [f"insmod ./{filler}.ko || echo FAIL"] if filler else []
    lines.append(f"./{reloads.name} ./{late.name} ./{FAT}.ko ./{LAST}.ko || echo FAIL")
    said = boots.run(1, list(boots.folder.iterdir()), *lines)
    found = re.findall(r"^fat ([0-9a-f]+)$", said, re.MULTILINE)
    modes = len(options.LINK_MODES)
    assert len(found) == modes * (len(FILLERS) + 1)
    by_load = [set(found[k : k + modes]) for k in range(0, len(found), modes)]
    assert all(len(seen) == 1 for seen in by_load), found
    assert len(set(found)) > 1, "the module came back to the same address every time"
    assert said.count("\n0 failures\n") == len(found) + 1
