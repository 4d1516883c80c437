# SPDX-License-Identifier: GPL-2.0-only
"""The start of the same programs on their own kernel, in the virtual machine of `kbridge run`:
instructions, as icount.py counts them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import icount

from kbridge import proc
from kbridge.runtime import RUN_FOLDER
from libkernel_parts import commands, start
from libkernel_parts.commands import KBRIDGE, Spawner
from libkernel_parts.subjects import Kernel

GATE = "built by kbridge, full library, and its first gate"

_SECONDS = "120"  # of which boot and runs need some ten


@dataclass(frozen=True)
class GuestStart:
    """Instructions from exec to exit, medians, by the names of start.py and GATE."""

    kernel: Kernel
    instructions: dict[str, float]

    def more(self, name: str) -> float:
        return self.instructions[name] - self.instructions[start.WITHOUT]


def measure(spawner: Spawner, kernel: Kernel, programs: Path, rounds: int) -> GuestStart:
    """`programs`: the folder in which start.measure() has built them."""
    ways: dict[str, Sequence[str]] = {
        start.WITHOUT: ["/b/without"],
        start.FULL: [f"LD_LIBRARY_PATH={RUN_FOLDER}", "/b/with"],
        start.NEEDED: ["LD_LIBRARY_PATH=/b/needed", "/b/with"],
        start.KB_FULL: ["/b/kbridge"],
        GATE: ["/b/kbridge", "gate"],
    }
    words: list[str | Path] = [spawner.program, str(rounds), "/proc/self/fd/1"]
    for number, way in enumerate(ways.values()):
        words += ["--", *way] if number else way
    how = ["--cpus", "1", "--timeout", _SECONDS, "--kernel", kernel.release]
    for name in ("without", "with", "kbridge", "needed"):
        how += ["--file", f"{programs / name}:/b/{name}"]
    env = icount.environment(programs / "qemu")
    done = proc.run([*KBRIDGE, "run", "-q", *how, *words], env=env)
    runs = commands.parsed(done.stdout, len(ways))
    counted = [statistics.median(one.seconds for one in each) * 1e9 for each in runs]
    return GuestStart(kernel, dict(zip(ways, counted, strict=True)))
