# SPDX-License-Identifier: GPL-2.0-only
"""scripts/pages/support.py: a cell says what the results say, and no more."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts/pages/support.py"
OLD, NEW = "6.1.0-56-cloud-amd64", "6.12.117+deb12-cloud-amd64"


@pytest.fixture(scope="module")
def support() -> ModuleType:
    spec = importlib.util.spec_from_file_location("support", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["support"] = module  # dataclasses look for it there
    spec.loader.exec_module(module)
    return module


def junit(folder: Path, cases: dict[str, str]) -> Path:
    """A file as pytest writes it: name with parameters -> what it says of the test."""
    text = "".join(
        f'<testcase classname="tests.{name.partition("::")[0].replace("/", ".")}" '
        f'name="{name.partition("::")[2]}" time="1">{said}</testcase>'
        for name, said in cases.items()
    )
    file = folder / "junit.xml"
    file.write_text(f'<testsuites><testsuite timestamp="2026-01-02T03:04:05">{text}</testsuite>')
    with file.open("a") as more:
        more.write("</testsuites>")
    return file


def test_cells(support: ModuleType, tmp_path: Path) -> None:
    both, named = "vm/test_finish::test_everything_is_finished", "vm/test_corpus::test_it"
    cases = {
        f"{both}[{OLD}]": "",
        f"{both}[{NEW}]": "<failure/>",
        f"{named}[{OLD}-pic]": "",
        f"{named}[{NEW}-pic]": "",
        f"{named}[{NEW}-kernel]": "",
        f"vm/test_hard::test_it[{OLD}-]": "",
        f"vm/test_hard::test_it[{OLD}-pti=on]": "<skipped/>",
        "vm/test_other::test_without_a_kernel": "",
    }
    named_by_it = f"<properties><property name='kernel' value='{NEW}'/></properties>"
    cases["vm/test_one::test_of_one_kernel"] = named_by_it
    results, day = support.read([junit(tmp_path, cases)])
    assert (len(results), day) == (8, "2026-01-02")

    def cells(test: str, **how: object) -> list[str]:
        return [support.cell(support.Row("", test, **how), one, results) for one in (OLD, NEW)]

    assert cells(both, models=support.MODELS) == ["pic, kernel", "**fails**"]
    assert cells(named) == ["pic", "pic, kernel"]
    assert cells("vm/test_one::.*") == ["-", "yes"]
    assert cells("vm/test_hard::test_it") == ["**fails**", "-"]
    assert cells("vm/test_hard::test_it", lacks="pti") == ["yes", "-"]
    assert cells("vm/test_hard::test_it", holds="pti") == ["**fails**", "-"]


def test_the_tests_of_the_table_are_there(support: ModuleType) -> None:
    for row in support.ROWS:
        file, _, function = row.test.partition("::")
        text = (ROOT / "tests" / f"{file}.py").read_text()
        names = re.findall(r"^def (test_\w+)", text, re.MULTILINE)
        assert any(re.fullmatch(function, name) for name in names), row.test


def test_the_page_has_every_row(support: ModuleType) -> None:
    """Who adds a row runs the tests again."""
    text = (ROOT / "docs/support.md").read_text()
    for row in support.ROWS:
        assert f"| {row.what} | " in text
    assert "**fails**" not in text


def test_results_of_no_kernel(tmp_path: Path) -> None:
    file = junit(tmp_path, {"unit/test_a::test_b": ""})
    done = subprocess.run(
        [sys.executable, SCRIPT, file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "none of the results is of a test that names a kernel" in done.stderr
