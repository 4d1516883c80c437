# SPDX-License-Identifier: GPL-2.0-only
"""How gen-libkernel's time and memory grow with the number of symbols, beside as and ld."""

from __future__ import annotations

import functools
import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kbridge import proc
from kbridge.symbols import kallsyms
from libkernel_parts import subjects, writing
from libkernel_parts.commands import Run, Spawner, in_turns

OURS, THEIRS = "gen-libkernel", "as + ld"
_LEAST = 10  # symbols: what the command takes for almost none


@dataclass(frozen=True)
class Growth:
    """Runs by what ran and the number of symbols; `counts` without _LEAST."""

    counts: Sequence[int]
    runs: dict[tuple[str, int], list[Run]]

    def seconds(self, who: str, count: int) -> float:
        return statistics.median(one.seconds for one in self.runs[who, count])

    def mebibytes(self, who: str, count: int) -> float:
        return max(one.mebibytes for one in self.runs[who, count])

    def least(self) -> float:
        """Seconds for almost no symbols: the start of Python, most of it."""
        return self.seconds(OURS, _LEAST)

    def exponent(self, who: str) -> float:
        """k of seconds = start + c * symbols ** k, between the last two numbers; 1 is linear.

        The start is what almost no symbols take; beside it the smaller numbers are noise.
        """
        first, last = self.counts[-2:]
        start = self.seconds(who, _LEAST)
        low, high = (max(self.seconds(who, one) - start, 1e-6) for one in (first, last))
        return math.log(high / low) / math.log(last / first)


def measure(spawner: Spawner, folder: Path, counts: Sequence[int], rounds: int) -> Growth:
    folder.mkdir(parents=True)
    version = subjects.version_script(folder / "symbols.map")
    ways: dict[tuple[str, int], Callable[[], Run]] = {}
    for count in (_LEAST, *counts):
        text = subjects.generated(count, folder)
        symbols = kallsyms.parse(text.read_bytes()).resolvable()
        source = subjects.assembly(symbols, folder / f"symbols-{count}.s")
        out = folder / "libkernel.so"
        ways[OURS, count] = functools.partial(writing.generate, spawner, text, out)
        ways[THEIRS, count] = functools.partial(writing.linked, spawner, source, version)
    return Growth(counts, in_turns(ways, rounds))


def plot(growth: Growth, python: Path, folder: Path, output: Path) -> None:
    """The plot, as SVG; `python` is the one that has matplotlib."""
    panels = []
    for title, unit, value in (
        ("time of the whole command", "seconds", growth.seconds),
        ("most memory held", "MiB", growth.mebibytes),
    ):
        curves = [
            {"name": who, "style": style, "values": [value(who, one) for one in growth.counts]}
            for who, style in ((OURS, "o-"), (THEIRS, "s--"))
        ]
        panels.append({"title": title, "unit": unit, "curves": curves})
    results = folder / "growth.json"
    results.write_text(json.dumps({"counts": growth.counts, "panels": panels}))
    proc.run([python, Path(__file__).with_name("plot.py"), results, output])
