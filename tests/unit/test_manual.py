# SPDX-License-Identifier: GPL-2.0-only
"""Man pages and the table of exit statuses: complete, and as man programs like them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from kbridge import cli, manual, options

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert cli.main(["man", "-q", "-o", f"{tmp_path / 'man 1'}/"]) == 0
    return tmp_path / "man 1"


def said(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr


def test_there_is_a_page_for_each_verb(folder: Path) -> None:
    wanted = {"kbridge.1", *(f"kbridge-{verb.name}.1" for verb in options.VERBS)}
    assert {path.name for path in folder.iterdir()} == wanted


def test_mandoc_and_groff_find_nothing(folder: Path) -> None:
    pages = sorted(folder.iterdir())
    lint = said("mandoc", "-T", "lint", "-W", "all", *pages)
    # of pages that are not installed here
    rest = [line for line in lint.splitlines() if "referenced manual not found" not in line]
    assert rest == []
    assert said("groff", "-mdoc", "-ww", "-z", "-Tutf8", *pages) == ""
    (folder / "bad.1").write_text(".Dd today\n.Bogus\n")
    assert "unknown macro" in said("mandoc", "-T", "lint", folder / "bad.1")


def test_pages_say_all_that_the_table_has(folder: Path) -> None:
    for verb in options.VERBS:
        shown = said("mandoc", "-T", "ascii", folder / f"kbridge-{verb.name}.1")
        text = re.sub(r".\x08", "", shown)
        for option in options.of_verb(verb.name):
            for flag in option.flags:
                assert re.search(rf"{re.escape(flag)}[\s,]", text), (verb.name, flag)
        for argument in verb.arguments:
            assert argument.metavar in text
        for example in verb.examples:
            assert example.line in text
        for status in options.statuses_of(verb.name):
            assert re.search(rf"^ +{re.escape(status.status)}\s", text, re.MULTILINE)
        assert "January 2, 1970" in text


def test_text_is_safe_in_roff() -> None:
    assert manual._text(".TH is no macro here. 'Nor this") == "\\&.TH is no macro here. 'Nor this"
    assert manual._words("--a\\b") == "\\-\\-a\\eb"
    assert manual._words(".x") == "\\&.x"


def test_bad_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert cli.main(["man"]) == 2
    assert "-o DIR" in capsys.readouterr().err
    for place in (tmp_path / "file", tmp_path / "file/below", Path("/proc/man")):
        assert cli.main(["man", "-o", str(place)]) == 1
        err = capsys.readouterr().err
        assert str(place) in err
        assert "Traceback" not in err


@pytest.mark.parametrize("epoch", ["x", "9" * 30, "-" + "9" * 30])
def test_bad_epochs(
    epoch: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
    assert cli.main(["man", "-o", str(tmp_path / "man")]) == 2
    assert f"SOURCE_DATE_EPOCH={epoch!r}" in capsys.readouterr().err
    assert not (tmp_path / "man").exists()


def test_commands_that_are_told_can_be_typed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["man", "-o", f"{tmp_path}/a b"]) == 0
    assert f"man -l '{tmp_path}/a b/kbridge.1'" in capsys.readouterr().err


def test_the_table_of_exit_statuses_is_that_of_the_options() -> None:
    made = (ROOT / "docs/exit-statuses.md").read_text()
    assert made == manual.exit_statuses(), "python -m kbridge.manual > docs/exit-statuses.md"


def test_exit_statuses_are_what_the_code_ends_with() -> None:
    from kbridge import errors
    from kbridge.verbs import run
    from kbridge.vm import program

    known = {one.status for one in options.STATUSES}
    ours = (errors.EXIT_FAILED, errors.EXIT_USAGE, cli.EXIT_RUN_FAILED)
    runs = (run.GUEST_PANIC, run.TIMED_OUT, run.OWN_FAILURE)
    programs = (program.NOT_EXECUTABLE, program.NOT_FOUND)
    assert known == {"0", "128+n", "other", *map(str, (*ours, *runs, *programs))}
