#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Build times, side by side in one run: kbridge against Kbuild on the same file.

    .venv/bin/python bench/builds.py [--runs N] [--kernel RELEASE]

Prints medians and ratios; the two kinds of run alternate, so that noise hits both.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from kbridge import paths
from kbridge.kernels import kbuild, target

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "samples" / "fd_info"
APP, KMOD = SAMPLE / "fd_info.c", SAMPLE / "fd_info_kmod.c"


def timed(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def quiet(*command: object, cwd: Path | None = None) -> None:
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(words)} failed:\n{done.stdout}{done.stderr}")


class Cases:
    """What is timed; every case leaves things as it found them."""

    def __init__(self, folder: Path, release: str | None) -> None:
        self.folder = folder
        self.target = target.find(release)
        kbuild.flags(self.target)  # the caches are warm in every case
        for file in SAMPLE.iterdir():
            shutil.copy(file, folder)
        with (folder / "fd_info_kmod.c").open("a") as stream:
            stream.write('#include <linux/module.h>\nMODULE_LICENSE("GPL");\n')
        (folder / "Makefile").write_text("obj-m := fd_info_kmod.o\n")
        self.scons()

    def kbridge_kmod(self) -> None:
        command = ["kbridge", "build", "--shared", "--kmod", "fd_info_kmod.c", "-o", "kmod.so"]
        quiet(sys.executable, "-m", *command, "--kernel", self.target.release, cwd=self.folder)

    def kbuild_kmod(self) -> None:
        for made in self.folder.glob("*.o"):
            made.unlink()
        quiet("make", "-C", self.target.kdir, f"M={self.folder}", "modules")

    def scons(self) -> None:
        where = [f"app={APP}", f"kmod={KMOD}", f"out={self.folder / 'build'}"]
        release = f"kernel={self.target.release}"
        quiet(sys.executable, "-m", "SCons", "-Q", *where, release, cwd=ROOT)

    def scons_whole(self) -> None:
        shutil.rmtree(self.folder / "build")
        self.scons()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--kernel")
    options = parser.parse_args()
    with paths.scratch("kbridge-bench-") as folder:
        cases = Cases(folder, options.kernel)
        named = {
            "one-file kmod, kbridge build --shared": cases.kbridge_kmod,
            "one-file kmod, make M=... modules": cases.kbuild_kmod,
            "app and kmod, scons from nothing": cases.scons_whole,
            "app and kmod, scons with nothing to do": cases.scons,
        }
        times: dict[str, list[float]] = {name: [] for name in named}
        for _ in range(options.runs):
            for name, work in named.items():
                times[name].append(timed(work))
    print(f"kernel {cases.target.release}, {options.runs} runs each, seconds")
    for name, taken in times.items():
        low, high = min(taken), max(taken)
        print(f"{name:<42} median {statistics.median(taken):6.3f}  ({low:.3f} to {high:.3f})")
    first, second = (statistics.median(taken) for taken in list(times.values())[:2])
    print(f"kbridge / Kbuild, one-file kmod: {first / second:.2f}")


if __name__ == "__main__":
    main()
