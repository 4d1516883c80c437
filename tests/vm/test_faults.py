# SPDX-License-Identifier: GPL-2.0-only
"""Faults in kmod code: who dies of them, who says so and how, and what goes on.

tests/faults has the list; docs/faults.md is the page that is compared.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from faults import boots, report
from faults.cases import ALONE, CASES, ELEVATED, SURVIVED, Case

from kbridge.kernels import target

KERNELS = [kernel.release for kernel in target.installed()] or ["none installed"]
HARD = "pti=on preempt=full"


@pytest.fixture(scope="module", params=KERNELS)
def built(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, dict[str, Path]]:
    """A kernel, and the programs for it."""
    release: str = request.param
    return release, boots.build(tmp_path_factory.mktemp("faults"), release)


def check(rows: list[boots.Row]) -> None:
    wrong = [line for row in rows for line in row.expected()]
    assert not wrong, "\n".join(wrong)
    otherwise = report.differences(report.PAGE.read_text(), rows)
    assert not otherwise, "\n".join([f"{report.PAGE.name} is not what was seen:", *otherwise])


@pytest.mark.parametrize("append", ["", HARD], ids=["as it boots", "isolated and preempted"])
def test_the_machine_goes_on(
    built: tuple[str, dict[str, Path]], tmp_path: Path, append: str
) -> None:
    release, programs = built
    check(boots.together(SURVIVED, release, programs, tmp_path, append))


SAMPLE = ("breakpoint", "deep_recursion", "interrupts_off")


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=() if case.fault in SAMPLE else pytest.mark.slow, id=case.key)
        for case in ALONE
    ],
)
def test_what_is_not_survived(
    built: tuple[str, dict[str, Path]], tmp_path: Path, case: Case
) -> None:
    release, programs = built
    if case.left_to_chance():
        rows = boots.together([case], release, programs, tmp_path)
    else:
        rows = [boots.alone(case, release, programs, tmp_path)]
    check(rows)


@pytest.mark.parametrize("append", ["", pytest.param(HARD, marks=pytest.mark.slow)])
def test_in_brackets_and_whole_programs(
    built: tuple[str, dict[str, Path]], tmp_path: Path, append: str
) -> None:
    release, programs = built
    check(boots.together(ELEVATED, release, programs, tmp_path, append))


def line_of(text: str) -> int:
    lines = (boots.PROGRAMS / "faults_kmod.c").read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("null_call", "return function()"),
        pytest.param("double_free", "kfree(hidden(", marks=pytest.mark.slow),
    ],
)
def test_what_kbridge_run_says(
    built: tuple[str, dict[str, Path]], tmp_path: Path, name: str, text: str
) -> None:
    release, programs = built
    case = next(one for one in CASES if one.fault == name)
    row = boots.alone(case, release, programs, tmp_path)
    assert row.got == case.got
    assert f"was killed by {case.got}; the guest's kernel says: " in row.said
    assert case.cause in row.said
    assert f" in {name}+0x" in row.said
    assert row.said.endswith(f"(faults_kmod.c:{line_of(text)})"), row.said


def test_the_page_has_every_fault() -> None:
    there = {(fault, context) for fault, context, _ in report.read(report.PAGE.read_text())}
    assert there == {(case.fault, case.context) for case in (*CASES, *ELEVATED)}
