# SPDX-License-Identifier: GPL-2.0-only
"""Completion in real shells, without a terminal of ours."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from kbridge import cli, elevation, options
from kbridge.kernels import target

# bash calls the function that was registered for a command, with these variables set
_BASH = """
eval "$(kbridge completion bash)"
line=%s
COMP_LINE=$line COMP_POINT=${#line} COMP_TYPE=9
read -ra COMP_WORDS <<< "$line"
case $line in *" ") COMP_WORDS+=("");; esac
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
how=$(complete -p kbridge)
how=${how##*-F }
"${how%% *}" kbridge "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}" 2>/dev/null
printf '%%s\\n' "${COMPREPLY[@]}"
"""
_FISH = "kbridge completion fish | source; complete -C %s"
# zsh completes in its line editor only: one in a pseudo-terminal, in which Tab is typed
_ZSH = r"""
zmodload zsh/zpty
zpty inner zsh -f -i
zpty -w inner 'PS1= RPS1=; autoload -U compinit; compinit -D -u'
zpty -w inner 'eval "$(kbridge completion zsh)"; echo REA""DY'
zpty -r inner seen '*READY*'
zpty -w -n inner %s$'\t'
zpty -r inner seen '*'%s'*' && print found
zpty -d inner
"""


def ask(shell: str, script: str) -> str:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "TERM": "xterm",
    }
    command = {"bash": ["bash", "--norc"], "fish": ["fish", "-N"], "zsh": ["zsh", "-f"]}[shell]
    done = subprocess.run(
        [*command, "-c", script],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.stdout


def completed(shell: str, line: str) -> set[str]:
    script = {"bash": _BASH, "fish": _FISH}[shell]
    out = ask(shell, script % shlex.quote(line))
    return {word.split("\t")[0].strip() for word in out.splitlines()} - {""}


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_bash_and_fish(shell: str, kernels: list[target.KernelTarget], tmp_path: Path) -> None:
    verbs = {verb.name for verb in options.VERBS}
    assert verbs <= completed(shell, "kbridge ")
    assert completed(shell, "kbridge gen-l") == {"gen-libkernel"}
    flags = {flag for one in options.of_verb("run") for flag in one.flags if flag[1] == "-"}
    assert flags | {"--help"} == completed(shell, "kbridge run --")
    assert completed(shell, "kbridge build --code k") == {"kernel"}
    assert completed(shell, "kbridge completion z") == {"zsh"}
    releases = {kernel.release for kernel in kernels}
    assert completed(shell, "kbridge symbols --kernel ") == releases
    names = {one.name for one in elevation.ADAPTORS}
    assert completed(shell, "kbridge elevate --without ") == names
    (tmp_path / "a_file.c").write_text("")
    assert completed(shell, f"kbridge build {tmp_path}/a_f") == {f"{tmp_path}/a_file.c"}
    # what stands behind PROG is PROG's
    assert completed(shell, "kbridge run --cpus 4 --cp") == {"--cpus"}
    for line in ("run ./prog --cp", "run --cpus 4 ./prog --kernel 6", "elevate -- ./prog --co"):
        assert completed(shell, f"kbridge {line}") == set()
    for line in ("run ./prog", "run ./prog --kernel", "elevate -- ./prog"):
        found = completed(shell, f"kbridge {line} {tmp_path}/a_f")
        assert found == {f"{tmp_path}/a_file.c"}


@pytest.mark.parametrize(
    ("typed", "becomes"),
    [
        ("kbridge gen-l", "gen-libkernel"),
        ("kbridge run --oth", "--other-build"),
        ("kbridge build --code k", "kernel"),
    ],
)
def test_zsh(typed: str, becomes: str) -> None:
    assert ask("zsh", _ZSH % (shlex.quote(typed), shlex.quote(becomes))) == "found\n"


def test_unknown_shells(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", "fsh"]) == 2
    assert "did you mean fish?" in capsys.readouterr().err
    assert cli.main(["completion"]) == 2
