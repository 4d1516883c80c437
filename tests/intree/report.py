# SPDX-License-Identifier: GPL-2.0-only
"""Tables of what became of the in-tree modules: on the terminal, and as docs/corpus.md."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jinja2

from intree.attempts import KBUILD, Attempt
from intree.programs import NO_INIT, Runs

TEMPLATE = Path(__file__).with_name("corpus.md.j2")
NOT_THERE = "-"

# what the error says -> the class that it is counted in
_CLASSES = (
    (r"has no symbol|undefined!", "a symbol that neither the kernel nor a module of it has"),
    (r"defines no function", "no function, so nothing to call"),
    (r"section \S+", "a section that kbridge refuses"),
    (r"does not compile|No such file or directory", "does not compile out of tree"),
)


@dataclass
class Survey:
    """All attempts on one kernel.  `attempts` and `runs` by code model (or KBUILD)."""

    release: str
    sources: str
    listed: Sequence[str]
    there: Sequence[str]
    attempts: dict[str, list[Attempt]] = field(default_factory=dict)
    runs: dict[str, Runs] = field(default_factory=dict)

    def codes(self) -> list[str]:
        return [how for how in self.attempts if how != KBUILD]

    def failed(self, how: str) -> list[Attempt]:
        return [one for one in self.attempts.get(how, ()) if one.error]

    def built(self, how: str) -> list[Attempt]:
        return [one for one in self.attempts.get(how, ()) if not one.error]

    def lost(self, code: str) -> list[Attempt]:
        """What Kbuild builds and kbridge does not; all that kbridge does not, without Kbuild."""
        refused_there = {one.source for one in self.failed(KBUILD)}
        return [one for one in self.failed(code) if one.source not in refused_there]


def classes(attempts: Iterable[Attempt]) -> dict[str, list[Attempt]]:
    """Failures by cause, the most frequent first."""
    found: dict[str, list[Attempt]] = {}
    for one in attempts:
        named = (name for pattern, name in _CLASSES if re.search(pattern, one.error))
        found.setdefault(next(named, "other"), []).append(one)
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


COUNTS = (
    "kernel", "code", "listed", "exist", "Kbuild builds", "kbridge builds",
    "of both", "use modules' symbols",
)  # fmt: skip


def count_rows(surveys: Sequence[Survey]) -> list[list[str]]:
    """A row a kernel and code model, under COUNTS."""
    rows = []
    for survey in surveys:
        by_kbuild = {one.source for one in survey.built(KBUILD)}
        for code in survey.codes():
            built = survey.built(code)
            both = sum(one.source in by_kbuild for one in built)
            known = KBUILD in survey.attempts
            rows.append(
                [
                    survey.release,
                    code,
                    str(len(survey.listed)),
                    str(len(survey.there)),
                    str(len(by_kbuild)) if known else "not tried",
                    str(len(built)),
                    f"{both / len(by_kbuild):.1%}" if by_kbuild else "not tried",
                    str(sum(bool(one.modules) for one in built)),
                ]
            )
    return rows


def result_columns(surveys: Sequence[Survey]) -> list[tuple[Survey, str]]:
    return [(survey, code) for survey in surveys for code in survey.runs]


def result_rows(surveys: Sequence[Survey]) -> list[list[str]]:
    """A row a source: what module_init() returned on each kernel, in each code model."""
    columns = result_columns(surveys)
    names = dict.fromkeys(name for survey in surveys for name in survey.listed)
    return [
        [name, *(survey.runs[code].results.get(name, NOT_THERE) for survey, code in columns)]
        for name in names
    ]


RUN_COUNTS = ("kernel", "code", "libraries", "init called", "returned 0", "no init", "complaints")


def run_rows(surveys: Sequence[Survey]) -> list[list[str]]:
    rows = []
    for survey, code in result_columns(surveys):
        runs = survey.runs[code]
        results = list(runs.results.values())
        counts = (
            len(results), runs.called(), results.count("0"), results.count(NO_INIT),
            len(runs.complaints),
        )  # fmt: skip
        rows.append([survey.release, code, *map(str, counts)])
    return rows


def lost_rows(surveys: Sequence[Survey]) -> list[list[str]]:
    return [
        [one.source, survey.release, code, one.error]
        for survey in surveys
        for code in survey.codes()
        for one in survey.lost(code)
    ]


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    ]
    return "\n".join(lines)


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    escaped = ([cell.replace("|", r"\|") for cell in row] for row in lines)
    return "\n".join(f"| {' | '.join(row)} |" for row in escaped)


def text(surveys: Sequence[Survey]) -> str:
    """What bench/corpus.py prints at its end."""
    parts = [text_table(COUNTS, count_rows(surveys))]
    for survey in surveys:
        for how in survey.attempts:
            for cause, found in classes(survey.failed(how)).items():
                lines = [f"  {one.source}: {one.error}" for one in found]
                title = f"{survey.release}, {how}: {len(found)} refused: {cause}"
                parts.append("\n".join([title, *lines]))
        for code, runs in survey.runs.items():
            if runs.complaints:
                title = f"{survey.release}, {code}: what the kernel complained of"
                parts.append("\n".join([title, *(f"  {line}" for line in runs.complaints)]))
    if any(survey.runs for survey in surveys):
        head = ["source", *(f"{survey.release} {code}" for survey, code in result_columns(surveys))]
        parts += [text_table(head, result_rows(surveys)), text_table(RUN_COUNTS, run_rows(surveys))]
    return "\n\n".join(parts) + "\n"


def markdown(surveys: Sequence[Survey], command: str) -> str:
    """docs/corpus.md."""
    loader = jinja2.Environment(
        keep_trailing_newline=True, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    columns = [f"{survey.release} {code}" for survey, code in result_columns(surveys)]
    lost = lost_rows(surveys)
    return loader.from_string(TEMPLATE.read_text()).render(
        command=command,
        surveys=surveys,
        counts=markdown_table(COUNTS, count_rows(surveys)),
        lost=markdown_table(("source", "kernel", "code", "what kbridge says"), lost)
        if lost
        else "",
        run_counts=markdown_table(RUN_COUNTS, run_rows(surveys)) if columns else "",
        results=markdown_table(("source", *columns), result_rows(surveys)) if columns else "",
    )
