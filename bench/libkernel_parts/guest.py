# SPDX-License-Identifier: GPL-2.0-only
"""The start of the same programs on their own kernel, in the virtual machine of `kbridge run`.

Emulated, a clock says nothing.  But QEMU's -icount makes the guest's clock count instructions,
one for each nanosecond, those of the guest's kernel included, and that is the same every time.
"""

from __future__ import annotations

import os
import shlex
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kbridge import proc
from kbridge.runtime import RUN_FOLDER
from kbridge.vm import qemu
from libkernel_parts import commands, start
from libkernel_parts.commands import KBRIDGE, Spawner
from libkernel_parts.subjects import Kernel

GATE = "built by kbridge, full library, and its first gate"

_SECONDS = "120"  # of which boot and runs need some ten
# Without these, QEMU counts an instruction for every byte that the kernel copies or clears.
_CPU = "max,-cx16,-erms,-fsrm"


@dataclass(frozen=True)
class GuestStart:
    """Instructions from exec to exit, medians, by the names of start.py and GATE."""

    kernel: Kernel
    instructions: dict[str, float]

    def more(self, name: str) -> float:
        return self.instructions[name] - self.instructions[start.WITHOUT]


def possible() -> bool:
    """-icount is QEMU's own emulation's: with KVM there is none."""
    return not qemu.kvm_works()


def _counting(folder: Path) -> Path:
    """A folder whose qemu is the real one with -icount, to come first in PATH."""
    folder.mkdir()
    script = folder / qemu.PROGRAM
    real = shlex.quote(qemu.program())
    script.write_text(f'#!/bin/sh\nexec {real} "$@" -icount shift=0,sleep=off\n')
    script.chmod(0o755)
    return folder


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
    path = f"{_counting(programs / 'qemu')}:{os.environ.get('PATH', '')}"
    how = ["--cpus", "1", "--timeout", _SECONDS, "--kernel", kernel.release]
    for name in ("without", "with", "kbridge", "needed"):
        how += ["--file", f"{programs / name}:/b/{name}"]
    env = {"PATH": path, "KBRIDGE_QEMU_CPU": _CPU}
    done = proc.run([*KBRIDGE, "run", "-q", *how, *words], env=env)
    runs = commands.parsed(done.stdout, len(ways))
    counted = [statistics.median(one.seconds for one in each) * 1e9 for each in runs]
    return GuestStart(kernel, dict(zip(ways, counted, strict=True)))
