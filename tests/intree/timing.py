# SPDX-License-Identifier: GPL-2.0-only
"""How long kbridge and Kbuild take for the same files, side by side in one run.

The ways take turns, so that noise hits all alike; every run starts in an empty folder, with
kbridge's caches warm.
"""

from __future__ import annotations

import functools
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from intree import attempts
from kbridge import paths
from kbridge.errors import KbridgeError
from kbridge.kernels.target import KernelTarget

APART = "Kbuild, a build for each"
TOGETHER = "Kbuild, one build of all"


@dataclass(frozen=True)
class Files:
    """The files that every way gets, and how many at a time."""

    tree: Path
    names: Sequence[str]
    target: KernelTarget
    jobs: int

    def each(self, build: Callable[[str], attempts.Attempt]) -> list[attempts.Attempt]:
        with ThreadPoolExecutor(self.jobs) as pool:
            return list(pool.map(build, self.names))

    def kbridge(self, code: str, folder: Path) -> list[attempts.Attempt]:
        return self.each(lambda name: attempts.kbridge(self.tree, name, self.target, code, folder))

    def apart(self, folder: Path) -> list[attempts.Attempt]:
        return self.each(lambda name: attempts.kbuild(self.tree, name, self.target, folder))

    def together(self, folder: Path) -> list[attempts.Attempt]:
        made = attempts.kbuild_together(self.tree, self.names, self.target, folder, self.jobs)
        if made != len(self.names):
            raise KbridgeError(f"Kbuild made {made} modules of {len(self.names)} sources")
        return []


def comparable(files: Files) -> Files:
    """Those of which Kbuild makes a .ko: not the ones that the kernel image has built in."""
    with paths.scratch("kbridge-times-") as folder:
        made = [one.source for one in files.apart(folder) if one.library]
    return Files(files.tree, made, files.target, files.jobs)


@dataclass
class _Taken:
    """Of every run: seconds on the clock, and of processors, by all programs that it started."""

    clock: list[float] = field(default_factory=list)
    processors: list[float] = field(default_factory=list)

    def add(self, way: Callable[[Path], list[attempts.Attempt]]) -> None:
        with paths.scratch("kbridge-times-") as folder:
            before, start = os.times(), time.perf_counter()
            made = way(folder)
            after, seconds = os.times(), time.perf_counter() - start
        for one in made:
            if one.error:
                raise KbridgeError(f"{one.source} ({one.how}): {one.error}")
        used = after.children_user + after.children_system
        self.clock.append(seconds)
        self.processors.append(used - before.children_user - before.children_system)


def _line(name: str, seconds: Sequence[float]) -> str:
    spread = f"({min(seconds):.1f} to {max(seconds):.1f})"
    return f"{name:<26} median {statistics.median(seconds):6.1f}  {spread}"


def measure(files: Files, codes: Iterable[str], runs: int) -> str:
    """Medians and ratios, as text."""
    ours = {f"kbridge, code={code}": code for code in codes}
    ways: dict[str, Callable[[Path], list[attempts.Attempt]]] = {
        name: functools.partial(files.kbridge, code) for name, code in ours.items()
    }
    ways.update({APART: files.apart, TOGETHER: files.together})
    taken = {name: _Taken() for name in ways}
    for _ in range(runs):
        for name, way in ways.items():
            taken[name].add(way)
            print(f"{name}: {taken[name].clock[-1]:.1f} s", file=sys.stderr, flush=True)
    release, count = files.target.release, len(files.names)
    lines = [f"kernel {release}, {count} files, {files.jobs} at a time, {runs} runs each"]
    for what in ("clock", "processors"):
        by_name = {name: getattr(one, what) for name, one in taken.items()}
        lines.append(f"seconds, {'on the clock' if what == 'clock' else 'of processors'}:")
        lines += [_line(name, seconds) for name, seconds in by_name.items()]
        for name in ours:
            for other in (APART, TOGETHER):
                ratio = statistics.median(by_name[name]) / statistics.median(by_name[other])
                lines.append(f"{name} / {other}: {ratio:.2f}")
    return "\n".join(lines)
