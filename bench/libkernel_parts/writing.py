# SPDX-License-Identifier: GPL-2.0-only
"""gen-libkernel against the assembler and linker, and against vmlinux-to-elf, in turns."""

from __future__ import annotations

import functools
import re
import shutil
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kbridge import libkernel, proc
from kbridge.errors import KbridgeError
from libkernel_parts import subjects
from libkernel_parts.commands import KBRIDGE, Run, Spawner, in_turns, ratio
from libkernel_parts.subjects import Kernel

TEXT = "gen-libkernel, from kallsyms text"
VERSIONED = "as + ld -shared, with a version script"
PLAIN = "as + ld -shared, without"

_STAGE = re.compile(r"^ *([0-9.]+) s  (.+)$", re.MULTILINE)
_ALONE = ("make", "write")


def stages(said: str) -> dict[str, float]:
    """What --timings printed, in seconds."""
    found = {name: float(seconds) for seconds, name in _STAGE.findall(said)}
    if not {*_ALONE, "in all"} <= found.keys():
        raise KbridgeError(f"gen-libkernel --timings does not name {', '.join(_ALONE)}")
    return found


def generate(spawner: Spawner, symbols: Path, out: Path, cache: Path | None = None) -> Run:
    """One run of gen-libkernel; with `cache` emptied before."""
    env = {}
    if cache is not None:
        shutil.rmtree(cache, ignore_errors=True)
        env = {"KBRIDGE_CACHE": str(cache)}
    words = ("gen-libkernel", "--timings", "--symbols", symbols, "-o", out)
    return spawner.once([*KBRIDGE, *words], env)


def linked(spawner: Spawner, source: Path, version: Path | None) -> Run:
    """`as` and `ld -shared`, with the only hash table that libkernel.so has too."""
    made = source.with_suffix(".o")
    words: list[str | Path] = ["--hash-style=gnu", "-soname", libkernel.SONAME]
    if version:
        words += ["--version-script", version]
    runs = [
        spawner.once(["as", source, "-o", made]),
        spawner.once(["ld", "-shared", *words, made, "-o", source.with_suffix(".so")]),
    ]
    return Run(sum(one.seconds for one in runs), max(one.mebibytes for one in runs))


@dataclass
class Writing:
    """All runs on one kernel, by what ran; `stages` of the runs of TEXT."""

    kernel: Kernel
    runs: dict[str, list[Run]]
    image: list[Run] = field(default_factory=list)
    other: Run | None = None  # vmlinux-to-elf
    other_found: int = 0  # symbols

    def seconds(self, name: str) -> list[float]:
        return [one.seconds for one in self.runs[name]]

    def ratio(self) -> float:
        return ratio(self.seconds(TEXT), self.seconds(VERSIONED))

    def alone(self) -> list[float]:
        found = [stages(one.said) for one in self.runs[TEXT]]
        return [sum(one[stage] for stage in _ALONE) for one in found]

    def alone_ratio(self) -> float:
        return ratio(self.alone(), self.seconds(VERSIONED))

    def stage_medians(self) -> dict[str, float]:
        found = [stages(one.said) for one in self.runs[TEXT]]
        return {name: statistics.median(one[name] for one in found) for name in found[0]}

    def image_seconds(self) -> float:
        return statistics.median(one.seconds for one in self.image)

    def peak(self) -> tuple[float, float]:
        """MiB, the most of all runs: from text, from the image."""
        text = max(one.mebibytes for one in self.runs[TEXT])
        return text, max(one.mebibytes for one in self.image)

    def faster(self) -> float | None:
        """How many times as long vmlinux-to-elf took."""
        return self.other.seconds / self.image_seconds() if self.other else None


def _symbols_in(file: Path) -> int:
    """The symbols with a name that readelf sees."""
    listed = proc.run(["readelf", "-W", "--syms", file]).stdout
    return len(re.findall(r"^ *\d+: [0-9a-f]{16} .* (?!\$)[!-~]+$", listed, re.MULTILINE))


def measure(
    spawner: Spawner, kernel: Kernel, folder: Path, rounds: int, other: Sequence[str | Path]
) -> Writing:
    """`other`: the command of vmlinux-to-elf, to run once; nothing to leave it out."""
    folder.mkdir(parents=True)
    source = subjects.assembly(kernel.symbols, folder / "symbols.s")
    version = subjects.version_script(folder / "symbols.map")
    out, cache = folder / "libkernel.so", folder / "cache"
    ways: dict[str, Callable[[], Run]] = {
        TEXT: functools.partial(generate, spawner, kernel.text, out),
        VERSIONED: functools.partial(linked, spawner, source, version),
        PLAIN: functools.partial(linked, spawner, source, None),
    }
    for way in ways.values():
        way()  # all files are in memory from here on
    result = Writing(kernel, in_turns(ways, rounds))
    for number in range(rounds):
        if other and number == rounds // 2:
            made = folder / "vmlinux.elf"
            result.other = spawner.once([*other, kernel.vmlinux, made])
            result.other_found = _symbols_in(made)
        result.image.append(generate(spawner, kernel.vmlinuz, out, cache))
    return result
