#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""What gen-libkernel and its library cost, beside the usual tools, and whether goals are met.

    .venv/bin/python bench/libkernel.py                                    prints the goals
    .venv/bin/python bench/libkernel.py --markdown docs/libkernel-bench.md    and writes the page
    .venv/bin/python bench/libkernel.py --quick                            whether it works at all

The first run fetches the Python packages that only this benchmark uses into the cache.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import entry
import icount
from libkernel_parts import growth, guest, report, start, subjects, tools, writing
from libkernel_parts.commands import Spawner, say

from kbridge import paths
from kbridge.errors import UsageError


@dataclass(frozen=True)
class Amount:
    """How much is done of everything."""

    rounds: int
    growth_rounds: int
    counts: Sequence[int]
    spawns: int
    guest_spawns: int


WHOLE = Amount(7, 3, (10_000, 100_000, 1_000_000), 500, 50)
QUICK = Amount(1, 1, (1_000, 10_000), 10, 2)


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    how = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=how)
    add = parser.add_argument
    add("--kernel", action="append", metavar="RELEASE", help="may be given again (default: all)")
    add("--markdown", type=Path, metavar="FILE", help="also write the page, its plot beside it")
    add("--quick", action="store_true", help="little of everything, no vmlinux-to-elf")
    return parser.parse_args(argv)


def _measure(
    releases: Sequence[str], amount: Amount, folder: Path, other: Sequence[str | Path]
) -> report.Results:
    machine = tools.machine()  # first, for the load that others make
    spawner = Spawner(folder)
    writings, starts, guests = [], [], []
    for release in releases:
        kernel = subjects.kernel(release, folder / release, start.SYMBOLS)
        own = folder / release
        say(f"{release}: gen-libkernel, as and ld, {'vmlinux-to-elf' if other else 'in turns'}")
        writings.append(writing.measure(spawner, kernel, own / "writing", amount.rounds, other))
        say(f"{release}: program starts")
        starts.append(start.measure(spawner, kernel, own / "start", amount.spawns))
        if icount.possible():
            say(f"{release}: program starts in the virtual machine")
            programs = own / "start"
            guests.append(guest.measure(spawner, kernel, programs, amount.guest_spawns))
    say(f"growth: {', '.join(f'{one:,}' for one in amount.counts)} symbols")
    grown = growth.measure(spawner, folder / "growth", amount.counts, amount.growth_rounds)
    return report.Results(machine, writings, grown, starts, guests, amount.rounds, amount.spawns)


def _run(argv: Sequence[str]) -> None:
    wanted = _arguments(argv)
    if wanted.markdown and wanted.markdown.suffix != ".md":
        raise UsageError(f"{wanted.markdown}: no page", hint="name a file that ends in .md")
    releases = [kernel.release for kernel in entry.kernels(wanted.kernel)]
    programs = tools.environment()
    other = [] if wanted.quick else [programs / tools.OTHER]
    amount = QUICK if wanted.quick else WHOLE
    with paths.scratch("kbridge-libkernel-") as folder:
        results = _measure(releases, amount, folder, other)
        if wanted.markdown:
            page = wanted.markdown.absolute()
            paths.make_parent(page)
            plot = page.with_suffix(".svg")
            growth.plot(results.growth, programs / "python", folder, plot)
            command = entry.command(__file__, argv)
            entry.write_page(page, report.markdown(results, command, plot.name))
    print(report.text(results), end="")


if __name__ == "__main__":
    sys.exit(entry.main(_run))
