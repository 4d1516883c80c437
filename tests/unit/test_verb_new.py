# SPDX-License-Identifier: GPL-2.0-only
"""kbridge new: which names it takes, and that a project is there whole or not at all.

That what it makes builds and runs: tests/vm/test_new.py.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kbridge import cli
from kbridge.errors import UsageError
from kbridge.verbs import new

# stops half-way, until a signal comes
_HALF = """
import pathlib, sys, time
from kbridge import cli
from kbridge.verbs import new

whole = new._write

def half(files, folder):
    whole(dict(list(files.items())[:2]), folder)
    print("half", flush=True)
    time.sleep(600)

new._write = half
sys.exit(cli.main(["new", "hello"]))
"""


def content(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def half_way(tmp_path: Path):
    """A kbridge new that has written some of its files."""
    command = [sys.executable, "-c", _HALF]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "half\n"
        yield process
        process.kill()


@pytest.mark.parametrize(("build", "rules"), [("make", "Makefile"), ("scons", "SConstruct")])
def test_a_project_is_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], build: str, rules: str
) -> None:
    folder = tmp_path / "my-prog_1"
    assert cli.main(["new", "--build", build, str(folder)]) == 0
    assert content(folder) == {
        "my-prog_1.c",
        "my-prog_1_kmod.c",
        "my-prog_1_kmod.h",
        rules,
        ".gitignore",
        "README.md",
    }
    assert content(tmp_path) == {"my-prog_1"}
    for path in folder.iterdir():
        text = path.read_text()
        assert text.endswith("\n")
        assert not re.search(r"\{[{%#]|[%#}]\}", text), path
    assert "my_prog_1_look" in (folder / "my-prog_1_kmod.c").read_text()
    assert "cd " in capsys.readouterr().err
    assert folder.stat().st_mode & 0o500 == 0o500


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("", "hello"),
        ("a b", "a_b"),
        ("ünïcode", "unicode"),
        ("日本", "hello"),
        ("1st", "st"),
        ("_x", "x"),
        ("x.c", "x_c"),
        ("a\nb", "a_b"),
        ("x" * 65, "x" * 64),
        ("..", "hello"),
        ("$(reboot)", "reboot"),
        ("a;b", "a_b"),
    ],
)
def test_bad_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, near: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        new.check_name(name)
    assert (caught.value.hint or "").endswith(near)
    assert cli.main(["new", name]) == 2
    assert content(tmp_path) == set()


@pytest.mark.parametrize(
    "words", [["--build", "ninja", "x"], ["-x"], ["--", "-x"], [], ["/"], ["a", "b"]]
)
def test_bad_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["new", *words]) == 2
    assert content(tmp_path) == set()


@pytest.mark.parametrize("kind", ["folder", "file", "dangling link"])
def test_what_is_there_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    there = tmp_path / "hello"
    if kind == "folder":
        there.mkdir()
    elif kind == "file":
        there.write_text("mine")
    else:
        there.symlink_to("nowhere")
    assert cli.main(["new", str(there)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert content(tmp_path) == {"hello"}
    assert kind != "file" or there.read_text() == "mine"


def test_no_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["new", str(tmp_path / "not" / "here")]) == 2
    assert "mkdir -p" in capsys.readouterr().err
    assert cli.main(["new", "/proc/hello"]) == 1  # where not even root may write
    err = capsys.readouterr().err
    assert "cannot make /proc/hello" in err
    assert "Traceback" not in err
    assert cli.main(["new", "--kernel", "6.1.0-none", str(tmp_path / "hello")]) == 2
    assert content(tmp_path) == set()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_nothing(
    tmp_path: Path, half_way: subprocess.Popen[str], number: signal.Signals
) -> None:
    assert "hello" not in content(tmp_path)
    half_way.send_signal(number)
    assert half_way.wait(60) == -number
    assert content(tmp_path) == set()


def test_killed_it_leaves_no_project_and_the_next_one_clears_up(
    tmp_path: Path, half_way: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    half_way.kill()
    half_way.wait(60)
    assert "hello" not in content(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["new", "hello"]) == 0
    assert content(tmp_path) == {"hello"}
    assert len(content(tmp_path / "hello")) == 6


def test_two_at_once_make_one(
    tmp_path: Path, half_way: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slower one's folder is not taken for what a killed one left, and it says so."""
    monkeypatch.chdir(tmp_path)
    assert cli.main(["new", "hello"]) == 0
    assert len(content(tmp_path)) == 2
    assert half_way.poll() is None
    statuses: list[int] = []
    start = threading.Barrier(4)

    def race() -> None:
        start.wait(60)
        done = subprocess.run(
            [sys.executable, "-m", "kbridge", "new", "race"], capture_output=True, check=False
        )
        statuses.append(done.returncode)

    threads = [threading.Thread(target=race) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses.count(0) == 1
    assert set(statuses) <= {0, 1, 2}
    assert len(content(tmp_path / "race")) == 6
