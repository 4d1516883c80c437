# SPDX-License-Identifier: GPL-2.0-only
"""One binary runs right wherever a boot puts the kernel, and wherever a module is loaded."""

from __future__ import annotations

import re
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
        how = ["--kernel", self.release, "--timeout", "120", "--cpus", str(1 + number % 2), *share]
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


def library(boots: Boots) -> Path:
    out = boots.folder / "later.so"
    words = ["--shared", "--kmod", PROGRAMS / "kaslr_kmod.c", "--kcflags=-DLATER", "-o", out]
    done = boots.kbridge("build", *words, "--kernel", boots.release)
    assert done.returncode == 0, done.stderr
    return out


def runs_right(boots: Boots, times: int) -> None:
    """The same files in every boot; at the end they are as they were built."""
    made = [library(boots)]
    for link, code in zip(options.LINK_MODES, options.CODE_MODELS, strict=True):
        app, kmod = PROGRAMS / "kaslr.c", PROGRAMS / "kaslr_kmod.c"
        how = ["--link", link, "--code", code]
        made.append(build(boots.kbridge, app, kmod, boots.folder / link, boots.release, *how))
    content = [path.read_bytes() for path in made]
    lines = [f"./{path.name} ./{made[0].name} || echo FAIL" for path in made[1:]]
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
    """A program runs right after each load of the module, and holds it as long as it runs."""
    moves, kmod = PROGRAMS / "module_moves.c", PROGRAMS / "module_moves_kmod.c"
    for link in options.LINK_MODES:
        build(boots.kbridge, moves, kmod, boots.folder / link, boots.release, "--link", link)
    names = (FAT, *(name.replace("-", "_") for name in FILLERS))
    for file in modules.needed(images.find(boots.release).modules, names):
        unpacked = boots.folder / f"{file.name.partition('.ko')[0]}.ko"
        unpacked.write_bytes(modules.content(file))
    lines = []
    for filler in (*FILLERS, None):
        lines.append(f"insmod ./{FAT}.ko || echo FAIL")
        lines += [f"./{link} || echo FAIL" for link in options.LINK_MODES]
        lines.append(f"rmmod {FAT} || echo FAIL")
        lines += [f"insmod ./{filler}.ko || echo FAIL"] if filler else []
    said = boots.run(1, list(boots.folder.iterdir()), *lines)
    found = re.findall(r"^fat ([0-9a-f]+)$", said, re.MULTILINE)
    modes = len(options.LINK_MODES)
    assert len(found) == modes * (len(FILLERS) + 1)
    by_load = [set(found[k : k + modes]) for k in range(0, len(found), modes)]
    assert all(len(seen) == 1 for seen in by_load), found
    assert len(set(found)) > 1, "the module came back to the same address every time"
