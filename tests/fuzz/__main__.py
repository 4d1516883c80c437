# SPDX-License-Identifier: GPL-2.0-only
"""Fuzzes the readers of kbridge: python -m tests.fuzz SECONDS [READER...].

Each reader (targets.py) gets damaged input for its share of the time, in a process of its own,
which may use so much memory and so much time for each input.  What it does not stand is kept in
--keep with what happened; the exit status is then 1.  An input with a new outcome is damaged
further.  With --coverage the same readers are driven by atheris, if that is installed.
"""

from __future__ import annotations

import argparse
import hashlib
import mmap
import os
import random
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from kbridge.errors import KbridgeError
from tests.fuzz import targets
from tests.fuzz.mutate import mutated
from tests.fuzz.targets import Target

_ROOM = 64 << 20  # bytes of an input that is shared with the process that watches
_MEMORY = 300 << 10  # KiB that one input may cost
_SECONDS = 20  # that one input may take
_MANY = 400  # inputs with an outcome of their own that are kept


class TooLongError(BaseException):
    """No Exception: readers would catch it."""


def _late(_number: int, _frame: FrameType | None) -> None:
    raise TooLongError


def outcome(target: Target, data: bytes) -> str:
    """What became of the input, in words; what must not be is raised."""
    try:
        return target.run(data) or "taken"
    except (KbridgeError, OSError) as problem:
        return " ".join(re.findall(r"(?<!\S)[a-z]{2,}(?!\S)", str(problem)))[:60]


@dataclass
class Tally:
    """What the process of one reader tells at its end."""

    runs: int = 0
    taken: int = 0
    outcomes: set[str] = field(default_factory=set)


def _loop(target: Target, end: float, chance: random.Random, shared: mmap.mmap) -> Tally:
    tally, corpus = Tally(), [data for data in target.seeds() if len(data) < _ROOM - 8]
    for data in corpus:
        outcome(target, data)
    seeds = len(corpus)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    while time.monotonic() < end:
        from_ = corpus if chance.random() < 0.5 else corpus[:seeds]
        data = mutated(chance.choice(from_), target.words, chance)[: _ROOM - 8]
        shared[:8] = len(data).to_bytes(8, "little")
        shared[8 : 8 + len(data)] = data
        signal.setitimer(signal.ITIMER_REAL, _SECONDS)
        said = outcome(target, data)
        signal.setitimer(signal.ITIMER_REAL, 0)
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if used > before + _MEMORY:
            raise MemoryError(f"{used - before} KiB for one input")
        tally.runs += 1
        tally.taken += said.startswith("taken")
        if said not in tally.outcomes and len(corpus) - seeds < _MANY:
            tally.outcomes.add(said)
            corpus.append(data)
    return tally


def _child(target: Target, end: float, seed: int, shared: mmap.mmap, pipe: int) -> None:
    signal.signal(signal.SIGALRM, _late)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    status = 0
    try:
        tally = _loop(target, end, random.Random(seed), shared)
        said = f"{tally.runs} {tally.taken} {len(tally.outcomes)}"
    except BaseException:
        status, said = 3, traceback.format_exc()
    os.write(pipe, said.encode(errors="replace")[-30_000:])
    os._exit(status)


def fuzz(target: Target, seconds: float, seed: int, keep: Path) -> bool:
    """Whether the reader stood it."""
    shared = mmap.mmap(-1, _ROOM)
    read, write = os.pipe()
    start = time.monotonic()
    child = os.fork()
    if not child:
        _child(target, start + seconds, seed, shared, write)
    os.close(write)
    with os.fdopen(read, "rb") as stream:
        said = stream.read().decode()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    took = time.monotonic() - start
    if status == 0:
        runs, taken, outcomes = said.split()
        print(f"{target.name:12} {runs:>9} inputs in {took:4.0f} s, {taken:>8} taken, "
              f"{outcomes:>4} outcomes", flush=True)  # fmt: skip
        return True
    data = shared[8 : 8 + int.from_bytes(shared[:8], "little")]
    kept = keep / f"{target.name}-{hashlib.sha256(data).hexdigest()[:12]}"
    keep.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(data)
    kept.with_suffix(".txt").write_text(said or f"ended with status {status}\n")
    last = (said.strip() or f"status {status}").splitlines()[-1]
    print(f"{target.name:12} BROKE after {took:.0f} s: {last[:200]}: {kept}", flush=True)
    return False


def cover(target: Target, seconds: int) -> None:
    """By what atheris sees of the code that runs; it ends the process."""
    import atheris

    atheris.instrument_all()

    def one(data: bytes) -> None:
        outcome(target, data)

    with tempfile.TemporaryDirectory() as folder:
        for number, data in enumerate(target.seeds()):
            (Path(folder) / str(number)).write_bytes(data)
        options = [f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=1500", folder]
        atheris.Setup([sys.argv[0], *options], one)
        atheris.Fuzz()


def main() -> int:
    known = {one.name: one for one in targets.TARGETS}
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tests.fuzz")
    parser.add_argument("seconds", type=int, help="in all")
    parser.add_argument("readers", nargs="*", help=f"of {', '.join(known)}; default: all")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--keep", type=Path, default=Path("build/fuzz"), help="folder for findings")
    parser.add_argument("--coverage", action="store_true", help="of one reader, with atheris")
    parser.add_argument("--again", type=Path, help="a kept input, for one reader")
    chosen = parser.parse_args()
    unknown = set(chosen.readers) - known.keys()
    if unknown:
        parser.error(f"no reader {unknown.pop()}")
    wanted = [known[name] for name in chosen.readers or known]
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        os.environ["KBRIDGE_CACHE"] = folder
        os.chdir(folder)
        if chosen.again:
            print(outcome(wanted[0], (Path(sys.path[0]) / chosen.again).read_bytes()))
            return 0
        if chosen.coverage:
            cover(wanted[0], chosen.seconds)
        print(f"seed {chosen.seed}", flush=True)
        keep = Path(sys.path[0]) / chosen.keep
        share = chosen.seconds / len(wanted)
        stood = [fuzz(one, share, chosen.seed, keep) for one in wanted]
        return 1 - all(stood)


if __name__ == "__main__":
    sys.exit(main())
