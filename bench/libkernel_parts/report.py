# SPDX-License-Identifier: GPL-2.0-only
"""The goals with what was measured, and the page that holds all of it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from libkernel_parts import guest, start, writing
from libkernel_parts.commands import Run
from libkernel_parts.growth import OURS, THEIRS, Growth
from libkernel_parts.guest import GuestStart
from libkernel_parts.start import Start
from libkernel_parts.writing import Writing

TEMPLATE = Path(__file__).with_name("libkernel.md.j2")
NOT_MEASURED = "not measured"

WHOLE = 1.0  # of as + ld
ALONE = 0.5
IMAGE_SECONDS = 1.5
FASTER = 15.0
PEAK = 160.0  # MiB
START = 300.0  # microseconds
STEEPNESS = 1.1  # caches make more of more symbols: the linker's growth is the measure, with noise


@dataclass(frozen=True)
class Results:
    """All that one run of the benchmark found."""

    machine: dict[str, str]
    writing: Sequence[Writing]
    growth: Growth
    start: Sequence[Start]
    guest: Sequence[GuestStart]
    rounds: int
    spawns: int


@dataclass(frozen=True)
class Goal:
    """`measured` and `limit` in `unit`; None where it was not measured."""

    what: str
    subject: str
    measured: float | None
    limit: float
    unit: str = ""
    at_least: bool = False

    def met(self) -> bool | None:
        if self.measured is None:
            return None
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit

    def row(self) -> list[str]:
        said = {True: "yes", False: "**no**", None: NOT_MEASURED}[self.met()]
        number = NOT_MEASURED if self.measured is None else f"{self.measured:.2f}{self.unit}"
        bound = f"{'at least' if self.at_least else 'at most'} {self.limit:g}{self.unit}"
        return [self.what, self.subject, bound, number, said]


def _of_kernel(one: Writing) -> list[Goal]:
    whose = f"{one.kernel.release}, {len(one.kernel.symbols):,} symbols"
    text, image = one.peak()
    return [
        Goal("whole command, from text / as + ld", whose, one.ratio(), WHOLE),
        Goal("making and writing both files alone / as + ld", whose, one.alone_ratio(), ALONE),
        Goal("from vmlinuz, nothing cached", whose, one.image_seconds(), IMAGE_SECONDS, " s"),
        Goal("vmlinux-to-elf / from vmlinuz", whose, one.faster(), FASTER, at_least=True),
        Goal("peak memory, from text", whose, text, PEAK, " MiB"),
        Goal("peak memory, from vmlinuz", whose, image, PEAK, " MiB"),
    ]


def goals(results: Results) -> list[Goal]:
    found = [goal for one in results.writing for goal in _of_kernel(one)]
    for each in results.start:
        for name in (start.FULL, start.KB_FULL):
            more, what = each.more(name), f"program start, {name}: more than without"
            found.append(Goal(what, each.kernel.release, more, START, " µs"))
    counts = " to ".join(f"{one:,}" for one in results.growth.counts[-2:]) + " symbols"
    steepness = results.growth.exponent(OURS) / results.growth.exponent(THEIRS)
    found.append(Goal(f"growth: exponent / that of {THEIRS}", counts, steepness, STEEPNESS))
    return found


# -- tables --


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)


def text_table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _seconds(values: Sequence[float]) -> list[str]:
    return [f"{statistics.median(values):.3f}", f"{min(values):.3f} to {max(values):.3f}"]


def _row(name: str, runs: Sequence[Run]) -> list[str]:
    memory = max(one.mebibytes for one in runs)
    return [name, *_seconds([one.seconds for one in runs]), f"{memory:.0f}"]


def writing_table(one: Writing) -> str:
    rows = [_row(name, runs) for name, runs in one.runs.items()]
    alone = "of gen-libkernel: making and writing both files alone"
    rows.insert(1, [alone, *_seconds(one.alone()), "-"])
    rows.append(
        _row(f"gen-libkernel, from vmlinuz ({one.kernel.packer}), nothing cached", one.image)
    )
    if one.other:
        name = f"vmlinux-to-elf, from the unpacked image (found {one.other_found:,} symbols)"
        rows.append(_row(name, [one.other]))
    return table(("what", "seconds, median", "all runs", "peak memory, MiB"), rows)


def stage_table(results: Results) -> str:
    medians = [one.stage_medians() for one in results.writing]
    rows = [
        [stage, *(f"{each[stage] * 1000:.0f}" for each in medians)]
        for stage in medians[0]
        if all(stage in each for each in medians)
    ]
    return table(("stage, ms", *(one.kernel.release for one in results.writing)), rows)


def growth_table(growth: Growth) -> str:
    rows = []
    for count in growth.counts:
        cells = [f"{count:,}"]
        for who in (OURS, THEIRS):
            cells += [f"{growth.seconds(who, count):.3f}", f"{growth.mebibytes(who, count):.0f}"]
        rows.append(cells)
    head = ["symbols"]
    for who in (OURS, THEIRS):
        head += [f"{who}, s", f"{who}, MiB"]
    return table(head, rows)


def start_table(results: Results) -> str:
    names = list(results.start[0].runs)
    rows = []
    for name in names:
        cells = [name]
        for each in results.start:
            cells += [f"{each.microseconds(name):.0f}", f"{each.more(name):+.0f}"]
        rows.append(cells)
    head = ["program"]
    for each in results.start:
        head += [f"{each.kernel.release}, µs", "more"]
    return table(head, rows)


def guest_table(results: Results) -> str:
    rows = []
    for name in (start.WITHOUT, start.FULL, start.NEEDED, start.KB_FULL, guest.GATE):
        cells = [name]
        for each in results.guest:
            cells += [f"{each.instructions[name] / 1e6:.2f}", f"{each.more(name) / 1e6:+.2f}"]
        rows.append(cells)
    head = ["program"]
    for each in results.guest:
        head += [f"{each.kernel.release}, million instructions", "more"]
    return table(head, rows)


def text(results: Results) -> str:
    """What is printed at the end: the goals."""
    return text_table([goal.row() for goal in goals(results)]) + "\n"


def markdown(results: Results, command: str, plot: str) -> str:
    """The page; `plot`: the name of the plot, beside it."""
    found = goals(results)
    loader = jinja2.Environment(
        keep_trailing_newline=True, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    return loader.from_string(TEMPLATE.read_text()).render(
        command=command,
        results=results,
        machine=table(("", ""), [[name, said] for name, said in results.machine.items()]),
        goals=table(("goal", "of", "limit", "measured", "met"), [one.row() for one in found]),
        count=len(found),
        missed=sum(one.met() is False for one in found),
        writings=[(one.kernel, writing_table(one)) for one in results.writing],
        stages=stage_table(results),
        growth=growth_table(results.growth),
        exponent={who: f"{results.growth.exponent(who):.2f}" for who in (OURS, THEIRS)},
        last_two=" to ".join(f"{one:,}" for one in results.growth.counts[-2:]),
        least=f"{results.growth.least():.2f}",
        start=start_table(results),
        guest=guest_table(results) if results.guest else "",
        symbols=start.SYMBOLS,
        plot=plot,
        text=writing.TEXT,
        ours=OURS,
        theirs=THEIRS,
    )
