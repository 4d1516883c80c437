# SPDX-License-Identifier: GPL-2.0-only
"""Boots machines in which the faults are made, and reads what became of process and machine."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kernel_log import complaints

from faults.cases import (
    CASES,
    DAMAGED,
    ELEVATED,
    FREED,
    GOES_ON,
    HANGS,
    KEPT,
    PANICS,
    SURVIVED,
    Case,
)
from kbridge import proc
from kbridge.vm import fault

PROGRAMS = Path(__file__).parents[1] / "vm/programs"
NAMES = ("faults", "faults_later")
LIBRARIES = ("/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/libc.so.6")
HANGING_SECONDS = 8
_MARK = "kbridge tries "
_TIME = re.compile(r"^\[ *[0-9.]+\] ")
_MILD = re.compile(r"WARNING: .*|BUG: scheduling .*")


@dataclass
class Row:
    """What was seen of a case; `said` is the line that tells of the fault.

    `wrong`: what should not be, a line each.
    """

    case: Case
    release: str
    got: str = "-"
    said: str = ""
    machine: str = GOES_ON
    image: str = "-"
    wrong: list[str] = field(default_factory=list)

    def expected(self) -> list[str]:
        """What is not as the case says it, and what else is wrong; nothing, as a rule."""
        case, bad = self.case, []
        if not case.left_to_chance():
            bad += self.wrong
            for what in ("got", "machine", "image"):
                seen, wanted = getattr(self, what), getattr(case, what)
                if seen != wanted:
                    bad.append(f"{what}: {seen}, not {wanted}")
        if case.cause not in self.said:
            bad.append(f"{case.cause!r} is not in {self.said!r}")
        if case.cause and not re.search(rf"\b{case.named}\+0x", self.said):
            bad.append(f"{case.named} is not in {self.said!r}")
        return [f"{case.key}: {line}" for line in bad]


def build(folder: Path, release: str) -> dict[str, Path]:
    """The programs, with source lines for the kmods."""
    built = {}
    for name in NAMES:
        app, kmod, out = PROGRAMS / f"{name}.c", PROGRAMS / f"{name}_kmod.c", folder / name
        words = ["build", app, "--kmod", kmod, "-o", out, "--kernel", release, "-g"]
        proc.run([sys.executable, "-m", "kbridge", *words])
        built[name] = out
    return built


def _run(release: str, log: Path, words: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kbridge", "run", "--kernel", release, *words],
        env=proc.environment({"KBRIDGE_CONSOLE_LOG": str(log), "NO_COLOR": "1"}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def _lines(log: Path) -> list[str]:
    text = log.read_text(errors="replace") if log.exists() else ""
    return [_TIME.sub("", line.rstrip("\r")) for line in text.splitlines()]


# Several in one boot


def _script(cases: Sequence[Case], programs: dict[str, Path]) -> str:
    """Each fault, then gates of the same and of the other image, then what is left of images."""
    first, other = (programs[name] for name in NAMES)
    parts = [
        "echo on > /proc/sys/kernel/printk_devkmsg",  # as many lines as one likes
        "images() { ls /sys/module | grep -c kb:; }",
        f"{first} gate task && {other} look || exit 9",
    ]
    for case in cases:
        parts.append(f"""
            echo '== {case.key}'; echo '<5>{_MARK}{case.key}' > /dev/kmsg
            before=$(images)
            {programs[case.program]} {case.context} {case.fault} 2>&1; echo status $?
            echo images $(($(images) - before))
            {first} gate task; echo same $?
            {other} look; echo other $?""")
    return "\n".join(parts)


def _ended(status: int) -> str:
    return signal.Signals(status - 128).name if status > 128 else f"status {status}"


def _got(text: str) -> str:
    found = re.search(r"^status (\d+)$", text, re.MULTILINE)
    return _ended(int(found[1])) if found else "?"


def _said(lines: Sequence[str], program: Path) -> str:
    found = fault.last(lines)
    if found:
        return found.text(fault.source_line(found, [program]))
    mild = next((k for k, line in enumerate(lines) if _MILD.search(line)), None)
    if mild is None:
        return ""
    here = next((line.strip() for line in lines[mild:] if "[kb:" in line), "")
    line = lines[mild]
    return line if "[kb:" in line or not here else f"{line} in {here}"


def _unexpected(lines: Sequence[str], case: Case) -> list[str]:
    """What the kernel complains of, beside the one fault."""
    own = [one for one in fault.every(lines) if one.function.startswith(f"{case.named}+0x")]
    told = {id(line) for one in own for line in one.lines}
    with tempfile.NamedTemporaryFile("w", suffix=".log") as part:
        part.write("\n".join(line for line in lines if id(line) not in told))
        part.flush()
        found = complaints(Path(part.name), case.mild)
    if (case.is_oops() and len(own) != 1) or (not case.cause and own):
        found.append(f"{len(own)} faults in {case.named}")
    return found


def _read(case: Case, release: str, text: str, lines: Sequence[str], program: Path) -> Row:
    row = Row(case, release, _got(text), _said(lines, program))
    words = dict(re.findall(r"^(images|same|other) (-?\d+)$", text, re.MULTILINE))
    row.image = {"0": FREED, "1": KEPT}.get(words.get("images", ""), "?")
    if words.get("same") != "0":
        row.machine = "no further gate"
    elif words.get("other") != "0":
        row.machine = DAMAGED
    row.wrong = [f"the kernel says: {line}" for line in _unexpected(lines, case)]
    if case.fault.endswith("_held") and "locks that nobody will free: 1" not in text:
        row.wrong.append("the lock is not held")
    return row


def together(
    cases: Sequence[Case], release: str, programs: dict[str, Path], folder: Path, append: str = ""
) -> list[Row]:
    """All in one boot.  A row says so where the machine did not come to its case."""
    log = folder / "together.log"
    log.unlink(missing_ok=True)
    files = [*LIBRARIES, *map(str, programs.values())]
    words = [word for file in files for word in ("--file", f"{file}:{file}")]
    words += ["--timeout", "200", "--append", append]
    done = _run(release, log, [*words, "/bin/busybox", "sh", "-c", _script(cases, programs)])
    outputs = {part.partition("\n")[0]: part for part in done.stdout.split("== ")[1:]}
    parts: dict[str, list[str]] = {}
    key = cases[0].key
    for line in _lines(log):
        if line.startswith(_MARK):
            key = line.removeprefix(_MARK)
        parts.setdefault(key, []).append(line)
    rows = []
    for case in cases:
        text, lines = outputs.get(case.key, ""), parts.get(case.key, [])
        rows.append(_read(case, release, text, lines, programs[case.program]))
        if not text:
            rows[-1].wrong.append(f"kbridge run: {done.returncode}: {done.stderr[-300:]}")
    return rows


# One in a boot


def alone(
    case: Case, release: str, programs: dict[str, Path], folder: Path, append: str = ""
) -> Row:
    """By kbridge run itself, whose message is the row's."""
    log = folder / "alone.log"
    log.unlink(missing_ok=True)
    seconds = str(HANGING_SECONDS) if case.machine == HANGS else "60"
    words = ["--timeout", seconds, "--append", append, programs[case.program]]
    done = _run(release, log, [*words, case.context, case.fault])
    errors = [line for line in done.stderr.splitlines() if line.startswith("kbridge: error: ")]
    said = errors[-1].removeprefix("kbridge: error: ") if errors else ""
    row = Row(case, release, said=said)
    row.machine = {123: PANICS, 124: HANGS}.get(done.returncode, GOES_ON)
    if row.machine == GOES_ON:
        row.got = _ended(done.returncode)
    return row


def all_of(release: str, folder: Path) -> list[Row]:
    """Every case on that kernel."""
    folder.mkdir(parents=True, exist_ok=True)
    programs = build(folder, release)
    rows = {row.case: row for row in together(SURVIVED, release, programs, folder)}
    rows |= {row.case: row for row in together(ELEVATED, release, programs, folder)}
    for case in CASES:
        if case.left_to_chance():
            rows[case] = together([case], release, programs, folder)[0]
        elif case not in rows:
            rows[case] = alone(case, release, programs, folder)
    return [rows[case] for case in (*CASES, *ELEVATED)]
