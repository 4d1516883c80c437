# SPDX-License-Identifier: GPL-2.0-only
"""Runs commands through a small C program and says how long they took and what memory they held.

Not for what is run.
"""

from __future__ import annotations

import shutil
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from kbridge import proc

KBRIDGE = (sys.executable, "-m", "kbridge")
SOURCE = Path(__file__).with_name("spawn.c")

Words = Sequence[str | Path]
_K = TypeVar("_K")
_T = TypeVar("_T")


@dataclass(frozen=True)
class Run:
    """One run of a command to its end."""

    seconds: float
    mebibytes: float  # the most that it held
    said: str = ""


class Spawner:
    """The C program, compiled, and where it leaves what it measured."""

    def __init__(self, folder: Path) -> None:
        self.program = folder / "spawn"
        self._results = folder / "spawn.results"
        proc.run(["gcc", "-O2", "-Wall", "-Werror", SOURCE, "-o", self.program])

    def rounds(self, commands: Sequence[Words], count: int) -> list[list[Run]]:
        """Every command `count` times, in turns; a list for each command.  Raises CommandError."""
        words: list[str | Path] = [self.program, str(count), self._results]
        for number, command in enumerate(commands):
            words += ["--", *command] if number else command
        said = proc.run(words)
        return parsed(self._results.read_text(), len(commands), said.stderr)

    def once(self, command: Words, env: Mapping[str, str] | None = None) -> Run:
        """One run.  The program is looked up in PATH."""
        program = shutil.which(command[0]) or command[0]
        variables = [f"{name}={value}" for name, value in (env or {}).items()]
        return self.rounds([[*variables, program, *command[1:]]], 1)[0][0]


def parsed(results: str, commands: int, said: str = "") -> list[list[Run]]:
    """What spawn.c wrote, by command."""
    runs: list[list[Run]] = [[] for _ in range(commands)]
    for line in results.splitlines():
        number, nanoseconds, kibibytes = map(int, line.split())
        runs[number].append(Run(nanoseconds / 1e9, kibibytes / 1024, said))
    return runs


def in_turns(ways: Mapping[_K, Callable[[], _T]], rounds: int) -> dict[_K, list[_T]]:
    """What each way gave in each round; every second round goes backwards."""
    found: dict[_K, list[_T]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in reversed(list(ways)) if number % 2 else ways:
            found[name].append(ways[name]())
    return found


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the ratios of the pairs."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def say(text: str) -> None:
    """What is being done, for whoever waits."""
    print(f"libkernel.py: {text}", file=sys.stderr, flush=True)
