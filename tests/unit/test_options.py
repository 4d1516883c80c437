# SPDX-License-Identifier: GPL-2.0-only
"""The option table and what is made of it."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from SCons.Errors import UserError

from kbridge import __version__, actions, cli, log, options, parser, scons_tool, scons_words


def test_every_verb_and_option_has_help() -> None:
    for option in options.OPTIONS:
        assert option.help
        assert option.flags or option.variable
        assert bool(option.flags) == bool(option.verbs)
    for verb in options.VERBS:
        assert verb.help
        assert verb.group in options.GROUPS
        assert verb.examples
        for example in verb.examples:
            assert example.what
            assert f"kbridge {verb.name}" in example.line


def test_every_verb_has_an_action_and_exit_statuses() -> None:
    verbs = {verb.name for verb in options.VERBS}
    assert {name for name in actions.ACTIONS if not name.startswith("-")} == verbs
    for verb in verbs:
        assert options.statuses_of(verb)


def test_options_ahead_of_the_verb_hold(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(log, "_verbosity", 0)
    assert cli.main(["-q", "adaptors"]) == 0
    assert log.verbosity() == -1
    assert cli.main(["--version"]) == 0
    assert f"kbridge {__version__}\n" in capsys.readouterr().out


def test_examples_parse() -> None:
    """Each is a command line that kbridge takes, as far as words go."""
    for verb in options.VERBS:
        for example in verb.examples:
            line = example.line.replace('"$(uname -r)"', "6.1.0-test")
            words = re.search(rf"kbridge {verb.name}([^)|>&]*)", line)
            assert words
            parser.parse([verb.name, *shlex.split(words[1])])


def test_scons_variables_are_those_promised() -> None:
    wanted = [
        "app",
        "kmod",
        "name",
        "out",
        "shared",
        "code",
        "link",
        "kcflags",
        "cflags",
        "ldflags",
        "kernel",
        "kdir",
        "debug",
        "kbuild",
        "mitigations",
        "allow",
        "stack_limit",
        "symbol",
        "compiledb",
        "V",
    ]
    assert {option.variable for option in options.of_scons()} == set(wanted)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["rn"], "did you mean run?"),
        (["build", "a.c", "--kmd", "k.c"], "did you mean --kmod?"),
        (["run", "--cpu", "2", "x"], "did you mean --cpus?"),
        (["build"], "-o FILE"),
        (["build", "-o", "x"], "--kmod FILE"),
        (["build", "--code", "kernl"], "did you mean kernel?"),
        (["build", "--allow", "sections"], "did you mean section?"),
        (["symbols", "--format", "jsn"], "did you mean json?"),
        (["xyzzy"], "kbridge --help lists them"),
        ([""], "'': no such verb"),
        (["--kernel", "6.1", "build"], "stands behind it: kbridge VERB --kernel ..."),
        (["--kernel=6.1", "build"], "stands behind it: kbridge VERB --kernel=6.1 ..."),
        (["--verison"], "did you mean --version?"),
        (["man", "-o", ""], "an empty name"),
    ],
)
def test_usage_errors_name_the_nearest(
    argv: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status = cli.main(argv)
    assert status == (125 if argv[0] == "run" else 2)
    out, err = capsys.readouterr()
    assert not out
    assert says in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"kmd": "x.c"}, "did you mean kmod=?"),
        ({"cods": "pic"}, "did you mean code=?"),
    ],
)
def test_unknown_scons_variables_name_the_nearest(arguments: dict[str, str], says: str) -> None:
    with pytest.raises(UserError) as caught:
        scons_tool.variables(arguments)
    assert says in str(caught.value)


@pytest.mark.parametrize("word", scons_words.KNOWN)
def test_every_word_of_an_sconstruct_is_an_option(word: str) -> None:
    assert scons_words.kind_of(word) in ("str", "flag", "int", "words", "list", "paths")


def test_everything_after_prog_is_progs(monkeypatch: pytest.MonkeyPatch) -> None:
    from kbridge.verbs import run

    seen: list[run.RunRequest] = []

    def record(request: run.RunRequest) -> int:
        seen.append(request)
        return 7

    monkeypatch.setattr(run, "run", record)
    words = ["run", "--cpus", "3", "prog", "--cpus", "4", "--", "-v", "--help"]
    assert cli.main(words) == 7
    assert seen[0].program == "prog"
    assert list(seen[0].args) == ["--cpus", "4", "--", "-v", "--help"]
    assert seen[0].cpus == 3
    assert not seen[0].verbose


def test_errors_of_the_system_are_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from kbridge import kelevate

    def full(_target: object) -> Path:
        raise OSError(28, "No space left on device", str(tmp_path / "x"))

    monkeypatch.setattr(kelevate, "module", full)
    assert cli.main(["kelevate"]) == 1
    err = capsys.readouterr().err
    assert f"{tmp_path / 'x'}: No space left on device" in err
    assert "Traceback" not in err


def test_the_documentation_names_every_class_that_is_refused() -> None:
    text = (Path(__file__).parents[2] / "docs/kmod.md").read_text()
    assert [name for name in options.REFUSED_CLASSES if f"| `{name}` |" not in text] == []


def test_help_that_cannot_be_written_is_an_error() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "kbridge", "build", "--help"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("kbridge: error: standard output: No space left on device\n")


@pytest.mark.parametrize(
    "words",
    [
        "--version", "--help", "run --help", "--makefile", "adaptors", "cmake-dir",
        "completion bash", "pkg-config-path --json",
    ],
)  # fmt: skip
@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_closed_standard_streams(words: str, closed: str) -> None:
    command = f"exec {shlex.quote(sys.executable)} -m kbridge {words} {closed}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


_NO_FOLDER = """
import sys, tempfile
from kbridge import cli
def none(): raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp', '/']")
tempfile.gettempdir = none
import os
access = os.access
os.access = lambda path, mode, **how: str(path) != "/nowhere" and not str(path).endswith("/tmp")
os.environ["TMPDIR"] = "/nowhere"
sys.exit(cli.main(sys.argv[1:]))
"""


def test_no_temporary_folder() -> None:
    command = [sys.executable, "-c", _NO_FOLDER, "doctor"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "FAILED   temporary folder" in done.stdout
    assert "looked at /nowhere, /tmp, /var/tmp" in done.stdout
    assert "export TMPDIR=" in done.stdout
    assert done.stdout.count("untried") == done.stdout.count("needs: temporary folder") > 10
    assert "Traceback" not in done.stderr
    assert "standard output" not in done.stderr


@pytest.mark.parametrize(
    ("words", "cause", "hint"),
    [
        (["ru'n"], '"ru\'n": no such verb', "did you mean run?"),
        (["completion", "f'sh"], "argument SHELL: invalid choice", "did you mean fish?"),
        (["new", "a", "b"], "unrecognized arguments: b", "see kbridge new --help"),
        (["build", "--x\ny"], "unrecognized arguments: --x\\ny", "see kbridge build --help"),
        (["build", "--kmdo", "x"], "unrecognized arguments: --kmdo", "did you mean --kmod?"),
    ],
)
def test_words_that_are_odd(
    words: list[str], cause: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith(f"kbridge: error: {cause}")
    assert said[1:] == [f"kbridge: hint: {hint}"]


def test_what_is_required_is_shown_so() -> None:
    subs = parser.of_verbs(parser.parser())
    assert (
        subs["gen-libkernel"].format_usage()
        == "usage: kbridge gen-libkernel [OPTION ...] -o FILE\n"
    )
    assert subs["link"].format_usage() == "usage: kbridge link [OPTION ...] -o FILE OBJ ...\n"
    assert "(required)" in subs["man"].format_help()
    assert "that PROG was built for" in " ".join(subs["run"].format_help().split())
