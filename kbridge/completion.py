# SPDX-License-Identifier: GPL-2.0-only
"""Completion of the command line in shells, from the table of options: argcomplete asks the parser.

The shell starts `kbridge` with _ARGCOMPLETE set, and gets words on a descriptor of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
from typing import Any

from kbridge import options, parser
from kbridge.errors import UsageError

VARIABLE = "_ARGCOMPLETE"


def script(shell: str) -> str:
    """What the shell has to read."""
    from argcomplete.shell_integration import shellcode

    return str(shellcode(["kbridge"], shell=shell)).strip("\n") + "\n"


def _kernels(**_: Any) -> list[str]:
    from kbridge.kernels import target

    return [one.release for one in target.installed()]


def _adaptors(**_: Any) -> list[str]:
    from kbridge import elevation

    return [one.name for one in elevation.ADAPTORS]


_COMPLETERS = {"--kernel": _kernels, "--without": _adaptors}


def _behind_program(known: argparse.ArgumentParser) -> bool:
    """Whether the words up to the cursor end in those of PROG, which are none of ours."""
    from argcomplete.lexers import split_line

    line, point = os.environ.get("COMP_LINE", ""), os.environ.get("COMP_POINT", "")
    words = split_line(line, int(point) if point.isdecimal() else len(line))[3]
    words = words[int(os.environ[VARIABLE]) :]
    if parser.verb_in(words) not in options.RUNNING:
        return False
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # --help may be among them
            return bool(known.parse_args(words).program)
    except (UsageError, SystemExit):
        return False


def answer() -> None:
    """Answer a shell that asks, and end; return where none does."""
    if VARIABLE not in os.environ:
        return
    import argcomplete

    known: argparse.ArgumentParser = parser.parser()
    if _behind_program(known):
        known = argparse.ArgumentParser(add_help=False)
        known.add_argument("args", nargs="*")  # names of files
    for sub in parser.of_verbs(known).values():
        for action in sub._actions:
            for flag in action.option_strings:
                if flag in _COMPLETERS:
                    action.completer = _COMPLETERS[flag]  # type: ignore[attr-defined]
    argcomplete.autocomplete(known, always_complete_options="long")
