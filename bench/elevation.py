#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""What gates and brackets cost, in instructions, those of the kernel included.

    .venv/bin/python bench/elevation.py [--kernel RELEASE]... [--append WORDS]... [--markdown FILE]

Counted in virtual machines under QEMU's -icount, which gives the same numbers every time; one
processor.  The yardstick is the getppid system call: the least that a program can ask.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import entry
import icount

from kbridge import paths, proc, runtime

PARTS = Path(__file__).parent / "elevation_parts"
KBRIDGE = [sys.executable, "-m", "kbridge"]
_SECONDS = "300"
APPENDS = ("", "pti=on")  # words for the kernel's command line

GATE_LIMIT, PAIR_LIMIT = 2.0, 1.8  # getppids
SERVICES = ("getppid", "gate", "page fault", "signal", "interrupt")
UNUSED = ("getppid", "page fault", "signal", "interrupt", "switch to a process and back")


@dataclass(frozen=True)
class Kernel:
    """A kernel and the words that it was started with; instructions by the programs' names."""

    release: str
    append: str
    instructions: dict[str, float]

    @property
    def title(self) -> str:
        return f"{self.release} {self.append}".strip()

    def getppids(self, name: str) -> float:
        return self.instructions[name] / self.instructions["getppid, in ring 3"]


def _numbers(output: str) -> dict[str, float]:
    rows = (line.split("\t") for line in output.splitlines())
    return {name: float(number) for name, number in rows}


def _build(release: str, folder: Path) -> tuple[Path, Path]:
    used, unused = folder / "used", folder / "unused"
    kmod = PARTS / "used_kmod.c"
    how: list[str | Path] = ["--kmod", kmod, "-o", used, "--kernel", release]
    proc.run([*KBRIDGE, "build", "-q", PARTS / "used.c", *how])
    includes = [f"-I{one}" for one in runtime.include_folders()]
    proc.run(["gcc", "-O2", "-static", *includes, PARTS / "unused.c", "-o", unused])
    return used, unused


def measure(release: str, append: str, folder: Path) -> Kernel:
    """`folder`: one that is made for it, or empty."""
    folder.mkdir(exist_ok=True)
    programs = _build(release, folder)
    env = icount.environment(folder / "qemu")
    how = ["run", "-q", "--cpus", "1", "--timeout", _SECONDS, "--kernel", release]
    if append:
        how += ["--append", append]
    numbers: dict[str, float] = {}
    for program in programs:
        numbers |= _numbers(proc.run([*KBRIDGE, *how, program], env=env).stdout)
    return Kernel(release, append, numbers)


def _row(name: str, cells: Sequence[str]) -> str:
    return f"| {name} | {' | '.join(cells)} |"


def _cost_table(kernels: Sequence[Kernel]) -> list[str]:
    names = {
        "getppid system call": "getppid, in ring 3",
        "gate around a trivial function": "gate, in ring 3",
        "`kb_elevate()` and `kb_lower()`": "kb_elevate and kb_lower",
        "`kb_call()` of getppid": "kb_call of getppid",
        "getppid system call in a bracket": "getppid, in a bracket",
        "gate in a bracket": "gate, in a bracket",
    }
    rows = [_row("", [kernel.title for kernel in kernels]), "|---|" + "---:|" * len(kernels)]
    for shown, name in names.items():
        cells = [f"{k.instructions[name]:.0f} ({k.getppids(name):.2f})" for k in kernels]
        rows.append(_row(shown, cells))
    return rows


def _pair(kernel: Kernel, name: str, before: str, after: str) -> str:
    was, now = (kernel.instructions[f"{name}, {when}"] for when in (before, after))
    return f"{was:.0f} → {now:.0f} ({100 * (now / was - 1):+.1f} %)"


def _comparison(
    kernels: Sequence[Kernel], services: Sequence[str], before: str, after: str
) -> list[str]:
    rows = [_row("", [kernel.title for kernel in kernels]), "|---|" + "---:|" * len(kernels)]
    rows += [_row(name, [_pair(k, name, before, after) for k in kernels]) for name in services]
    return rows


def page(kernels: Sequence[Kernel]) -> str:
    parts = [
        "# What gates and brackets cost",
        "Made by `bench/elevation.py --markdown docs/elevation-bench.md`. Instructions, those of "
        "the kernel included, under QEMU's `-icount`: the same numbers every time, on any "
        "machine. They are no times: a processor takes longer over `iret` or a write to CR4 than "
        "over others. In parentheses: how many getppid system calls that is.",
        *["\n".join(_cost_table(kernels))],
        f"The limits are {GATE_LIMIT} getppids for a gate and {PAIR_LIMIT} for a bracket.",
        "## The kernel's services in a bracket",
        "The same from ring 3 and from a bracket. The median of 101 timer interrupts; the least "
        "of 40 rounds of the others.",
        "\n".join(_comparison(kernels, SERVICES, "in ring 3", "in a bracket")),
        "In a thread that was elevated before and is in ring 3 again:",
        "\n".join(_comparison(kernels, SERVICES, "in ring 3", "elevated before")),
        "## Processes that never elevate",
        "With the module loaded and nothing elevated, against no module:",
        "\n".join(_comparison(kernels, UNUSED, "no module", "module loaded")),
        "And after another process was elevated and has ended:",
        "\n".join(_comparison(kernels, UNUSED, "no module", "module used before")),
    ]
    return "\n\n".join(parts) + "\n"


def run(words: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kernel", action="append", metavar="RELEASE")
    parser.add_argument("--append", action="append", metavar="WORDS")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    wanted = parser.parse_args(words)
    measured = []
    for append, kernel in itertools.product(wanted.append or APPENDS, entry.kernels(wanted.kernel)):
        with paths.scratch("kbridge-elevation-") as folder:
            measured.append(measure(kernel.release, append, folder))
    made = page(measured)
    print(made)
    if wanted.markdown:
        entry.write_page(wanted.markdown, made)


if __name__ == "__main__":
    sys.exit(entry.main(run))
