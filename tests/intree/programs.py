# SPDX-License-Identifier: GPL-2.0-only
"""Runs in-tree modules, built as libraries, in the virtual machine; says what became of each."""

from __future__ import annotations

import errno
import re
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kernel_log import complaints

from intree.attempts import Attempt
from kbridge import proc
from kbridge.errors import KbridgeError

DRIVER = Path(__file__).parents[1] / "vm/programs/modules_as_programs.c"
NO_INIT = "no module_init"

# include/linux/errno.h: what no user program gets to see; and Linux's name of one with several
_KERNEL_ERRNO = {95: "EOPNOTSUPP", 512: "ERESTARTSYS", 517: "EPROBE_DEFER", 524: "ENOTSUPP"}
# sysfs says so where the kernel image has the very module built in
_EXPECTED = ("cannot create duplicate filename",)
_LINE = re.compile(r"^/m/(\S+) (returned (-?\d+)|no init_module|signal (\d+)|\S.*)$", re.MULTILINE)
_SECONDS = 20  # for each, without KVM


@dataclass
class Runs:
    """By source: what became of it.  `complaints`: what the kernel said against it."""

    results: dict[str, str] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)

    def called(self) -> int:
        """How many module_init() functions ran, and returned."""
        return sum(said != NO_INIT and is_orderly(said) for said in self.results.values())


def is_orderly(result: str) -> bool:
    """Whether nothing but a return value of module_init() is told, or that there is none."""
    return result == NO_INIT or re.fullmatch(r"0|-E[A-Z0-9_]+", result) is not None


def _returned(number: int) -> str:
    if number >= 0:
        return str(number)
    name = _KERNEL_ERRNO.get(-number) or errno.errorcode.get(-number)
    return f"-{name}" if name else str(number)


def read(output: str) -> dict[str, str]:
    """Library name -> what the driver says of it, in the words of the table."""
    found: dict[str, str] = {}
    for name, said, returned, number in _LINE.findall(output):
        if returned:
            text = _returned(int(returned))
        elif number:
            text = f"killed by {signal.Signals(int(number)).name}"
        else:
            text = NO_INIT if said == "no init_module" else said
        # how the process ended comes behind what module_init() returned
        found[name] = f"{found[name]}, then {text}" if name in found else text
    return found


def driver(folder: Path) -> Path:
    output = folder / "modules-as-programs"
    proc.run(["gcc", "-O2", "-Wall", "-Werror", "-o", output, DRIVER])
    return output


def _needed(attempts: Sequence[Attempt]) -> list[str]:
    return sorted({name for one in attempts for name in one.modules})


def groups(attempts: Sequence[Attempt]) -> list[list[Attempt]]:
    """What can share a boot.  No guest loads the very module that is to run in it as a program."""
    alone = [one for one in attempts if not one.modules]
    others = [one for one in attempts if one.modules]
    loaded = _needed(others)
    twice = [one for one in others if Path(one.source).stem.replace("-", "_") in loaded]
    together = [one for one in others if one not in twice]
    return [group for group in (alone, together, *([one] for one in twice)) if group]


def _boot(release: str, program: Path, group: Sequence[Attempt], log: Path) -> proc.Result:
    words = ["run", "--fresh", "--kernel", release, "--memory", "1024"]
    words += ["--timeout", str(120 + _SECONDS * len(group))]
    words += [word for name in _needed(group) for word in ("--module", name)]
    words += [word for one in group for word in ("--file", f"{one.library}:/m/{one.name}")]
    names = [f"/m/{one.name}" for one in group]
    return proc.run(
        [sys.executable, "-m", "kbridge", *words, program, *names],
        env={"KBRIDGE_CONSOLE_LOG": str(log), "NO_COLOR": "1"},
        check=False,
    )


def _run_group(release: str, program: Path, group: list[Attempt], log: Path, runs: Runs) -> None:
    left = group
    while left:
        log.unlink(missing_ok=True)
        done = _boot(release, program, left, log)
        said = read(done.stdout)
        if not said and done.returncode == 125:
            raise KbridgeError(f"kbridge run failed: {done.stderr.strip()}")
        if log.exists():
            runs.complaints += complaints(log, _EXPECTED)
        runs.results.update({one.source: said[one.name] for one in left if one.name in said})
        left = [one for one in left if one.name not in said]
        if left:
            runs.results[left[0].source] = f"ended the machine (status {done.returncode})"
            left = left[1:]


def run(release: str, attempts: Sequence[Attempt], folder: Path) -> Runs:
    """Have the module_init() of each library called, then its module_exit(), in few boots.

    The modules whose symbols they need are loaded in the guest.  Where one ends the machine, the
    rest goes on in another.
    """
    program, runs = driver(folder), Runs()
    for group in groups([one for one in attempts if one.library]):
        _run_group(release, program, group, folder / "console.log", runs)
    return runs
