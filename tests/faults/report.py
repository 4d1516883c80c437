# SPDX-License-Identifier: GPL-2.0-only
"""The table of faults: written to docs/faults.md, and read back from it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import jinja2

from faults.boots import Row
from faults.cases import ELEVATED

TEMPLATE = Path(__file__).with_name("faults.md.j2")
PAGE = Path(__file__).parents[2] / "docs/faults.md"
HEAD = ("fault", "context", "kernel", "the process", "the kernel's words", "the machine",
        "the image")  # fmt: skip
OUTCOME = (0, 1, 3, 5, 6)  # columns that have to be as they were seen

# what differs from boot to boot, or with the compiler
_CHANCE = (
    (r": [0-9a-f]{4} \[#\d+\][A-Z_ ]*(?= in |$)", ""),
    (r"Oops: ", ""),
    (r"\+0x[0-9a-f]+/0x[0-9a-f]+", ""),
    (r"\b(?=0*[1-9a-f])[0-9a-f]{16}\b", "..."),
    (r"\(stack is [^)]*\)", "(stack is ...)"),
    (r"CPU: \d+ PID: \d+ at ", ""),
    (r"\bfaults/\d+/", "faults/PID/"),
    (r"(?<=[ (])/\S*/(?=\w+\.c:)", ""),
)


def kernel(release: str) -> str:
    """'6.1' of 6.1.0-56-cloud-amd64: updates do not change what is in the table."""
    return ".".join(release.split(".")[:2])


def _words(said: str) -> str:
    for pattern, instead in _CHANCE:
        said = re.sub(pattern, instead, said)
    return said


def cells(row: Row) -> list[str]:
    """The row's, under HEAD."""
    case = row.case
    end = (row.got, row.machine, row.image)
    if case.left_to_chance():  # which is no result
        end = (case.got, case.machine, case.image)
    got, machine, image = end
    return [case.fault, case.context, kernel(row.release), got, _words(row.said) or "-", machine,
            image]  # fmt: skip


def merged(rows: Iterable[Row]) -> list[list[str]]:
    """Kernels on which the same came of a fault share a line; in the order of the first."""
    found: dict[tuple[str, ...], list[str]] = {}
    order: dict[tuple[str, str], list[tuple[str, ...]]] = {}
    for row in rows:
        one = cells(row)
        key = (*one[:2], *one[3:])
        found.setdefault(key, []).append(one[2])
        keys = order.setdefault((one[0], one[1]), [])
        if key not in keys:
            keys.append(key)
    keys = [key for group in order.values() for key in group]
    return [[*key[:2], ", ".join(found[key]), *key[2:]] for key in keys]


def table(rows: Sequence[Sequence[str]]) -> str:
    lines = [HEAD, ["---"] * len(HEAD), *rows]
    escaped = ([cell.replace("|", r"\|") for cell in row] for row in lines)
    return "\n".join(f"| {' | '.join(row)} |" for row in escaped)


def read(page: str) -> dict[tuple[str, str, str], list[str]]:
    """The page's rows, one a kernel: fault, context, kernel -> all cells."""
    found = {}
    for line in page.splitlines():
        row = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(row) == len(HEAD) and row[0] != HEAD[0] and not row[0].startswith("-"):
            for one in row[2].split(", "):
                found[row[0], row[1], one] = row
    return found


def differences(page: str, rows: Iterable[Row]) -> list[str]:
    """What the page says otherwise than it was seen, a line each."""
    there, bad = read(page), []
    for row in rows:
        seen = cells(row)
        told = there.get((seen[0], seen[1], seen[2]))
        if told is None:
            bad.append(f"{' '.join(seen[:3])}: not there")
        elif any(told[k] != seen[k] for k in OUTCOME):
            bad.append(f"{' | '.join(told)}, not {' | '.join(seen)}")
    return bad


def markdown(rows: Sequence[Row], command: str) -> str:
    """docs/faults.md."""
    loader = jinja2.Environment(
        keep_trailing_newline=True, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    survived = [row for row in rows if row.case.survives() and row.case not in ELEVATED]
    others = [row for row in rows if not row.case.survives()]
    elevated = [row for row in rows if row.case in ELEVATED]
    return loader.from_string(TEMPLATE.read_text()).render(
        command=command,
        releases=" and ".join(dict.fromkeys(row.release for row in rows)),
        survived=table(merged(survived)),
        elevated=table(merged(elevated)),
        others=table(merged(others)),
    )
