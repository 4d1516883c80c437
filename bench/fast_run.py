#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""How long `kbridge run` takes from a saved state, beside booting and beside virtme-ng.

    .venv/bin/python bench/fast_run.py [--kernel RELEASE ...] [--runs N] [--markdown PAGE]

Whole commands, from start to end, in turn: the median of each.  The program is samples/fd_info,
built for that kernel; virtme-ng runs `true` on the newest kernel here that has 9p, with KVM or
without as the others (without: some 40 s a run, since it boots the machine's whole root).
"""

from __future__ import annotations

import argparse
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import entry

from kbridge import paths, proc
from kbridge.errors import KbridgeError
from kbridge.verbs import build
from kbridge.vm import hostroot, qemu

KBRIDGE = [sys.executable, "-m", "kbridge"]
SAMPLE = entry.ROOT / "samples/fd_info"
SECONDS = 600  # for a run that hangs


@dataclass(frozen=True)
class Row:
    """Seconds."""

    kernel: str
    boots: float
    resumes: float
    other: float | None


def timed(argv: Sequence[str | Path], said: str = "") -> float:
    begin = time.monotonic()
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    seconds = time.monotonic() - begin
    if done.returncode or said not in done.stdout:
        raise KbridgeError(f"{argv[0]} failed: {done.stderr[-300:]}", hint="run it by hand")
    return seconds


def median(once: Callable[[], float], runs: int) -> float:
    return statistics.median(once() for _ in range(runs))


def virtme(runs: int) -> float | None:
    tool = Path(sys.executable).parent / "virtme-run"
    if not runs or not tool.is_file():
        return None
    image = hostroot.find(hostroot.newest())
    words = ["--kimg", image.vmlinuz, "--mods", "auto", "--force-9p", "--memory", "512M"]
    kvm = [] if qemu.kvm_works() else ["--disable-kvm"]
    return median(lambda: timed([tool, *words, *kvm, "--script-sh", "true"]), runs)


def measure(release: str, runs: int, other: float | None, folder: Path) -> Row:
    program = folder / "fd_info"
    request = build.BuildRequest(
        app=[SAMPLE / "fd_info.c"],
        kmod=[SAMPLE / "fd_info_kmod.c"],
        output=program,
        kernel=release,
    )
    build.build(request)

    def run(*how: str) -> float:
        # with a word for the kernel, it does not run on this machine itself
        words = ["--kernel", release, "--append", "kbridge_bench", *how, program]
        return timed([*KBRIDGE, "run", *words], "the kernel says: pid")

    run()  # saves the state, if there is none
    fresh, kept = [], []
    for _ in range(runs):  # in turn: a busy machine is busy for both
        fresh.append(run("--fresh"))
        kept.append(run())
    return Row(release, statistics.median(fresh), statistics.median(kept), other)


def table(rows: Sequence[Row]) -> str:
    lines = [
        "| kernel | booting | saved state | booting / saved | virtme-ng | virtme-ng / saved |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        other = ("-", "-")
        if row.other is not None:
            other = (f"{row.other:.1f} s", f"{row.other / row.resumes:.0f}")
        times = f"{row.boots:.2f} s | {row.resumes:.2f} s | {row.boots / row.resumes:.1f}"
        lines.append(f"| {row.kernel} | {times} | {other[0]} | {other[1]} |")
    return "\n".join(lines) + "\n"


def page(rows: Sequence[Row], command: str) -> str:
    kvm = "with KVM" if qemu.kvm_works() else "without KVM"
    version = proc.run([qemu.program(), "--version"]).stdout.splitlines()[0]
    return (
        "# How long a run takes\n\n"
        "`kbridge run samples/fd_info`, the whole command, from a saved machine state\n"
        "([Running programs](running.md#saved-states)) and booting (`--fresh`), in turn; and\n"
        "virtme-ng running `true` on the newest kernel here that has 9p.\n\n"
        f"{table(rows)}\n"
        f"{version}, {kvm}, {platform.machine()}. Made by\n\n    {command}\n"
    )


def run(words: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kernel", action="append", metavar="RELEASE", help="may be given again")
    parser.add_argument("--runs", type=int, default=7, help="of kbridge (default: 7)")
    parser.add_argument("--virtme-runs", type=int, default=1, help="of virtme-ng (default: 1)")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the page there")
    wanted = parser.parse_args(words)
    if wanted.runs < 1 or wanted.virtme_runs < 0:
        raise KbridgeError("--runs is at least 1", hint="leave it out for what is usual")
    if not shutil.which(qemu.PROGRAM):
        raise KbridgeError("no QEMU here", hint="run: make setup")
    kernels = entry.kernels(wanted.kernel)
    other = virtme(wanted.virtme_runs)
    rows = []
    for kernel in kernels:
        with paths.scratch("kbridge-fast-run-") as folder:
            rows.append(measure(kernel.release, wanted.runs, other, folder))
    print(table(rows), end="")
    if wanted.markdown:
        entry.write_page(wanted.markdown, page(rows, entry.command(__file__, words)))


if __name__ == "__main__":
    sys.exit(entry.main(run))
