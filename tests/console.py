# SPDX-License-Identifier: GPL-2.0-only
"""Does what a page of the documentation tells its reader to type, and compares the answers.

    ```c title="NAME"       a file, which the reader writes
    ```console              `$ ` lines are typed, `> ` goes on with them, the rest is the answer

In answers `...` stands for anything, line ends too; alone on a line, also for no line at all.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(
    r'^```(?:console|\w+ title="(?P<name>[^"]+)")\n(?P<text>.*?)^```$', re.MULTILINE | re.DOTALL
)
_ANY = re.escape("...")


@dataclass(frozen=True)
class WrittenFile:
    name: str
    text: str


@dataclass(frozen=True)
class Command:
    line: str
    answer: str

    def answered_by(self, said: str) -> bool:
        form = re.escape(self.answer).replace(_ANY, ".*")
        form = re.sub(r"^\.\*\\\n", "(?:.*\\n)?", form, flags=re.MULTILINE)
        return re.fullmatch(form, said, re.DOTALL) is not None


def _commands(text: str) -> Iterator[Command]:
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        lines = part.splitlines(keepends=True)
        typed = 1
        while typed < len(lines) and lines[typed].startswith("> "):
            typed += 1
        line = lines[0] + "".join(more[2:] for more in lines[1:typed])
        yield Command(line.rstrip("\n"), "".join(lines[typed:]))


def steps(page: str) -> list[WrittenFile | Command]:
    """What the reader does, in order."""
    found: list[WrittenFile | Command] = []
    for block in _BLOCK.finditer(page):
        if block["name"]:
            found.append(WrittenFile(block["name"], block["text"]))
        else:
            found.extend(_commands(block["text"]))
    return found


def follow(
    todo: list[WrittenFile | Command],
    folder: Path,
    environment: Mapping[str, str],
    seconds: float,
) -> None:
    """One shell, which starts in `folder`.  AssertionError with the first answer that differs."""
    folder.mkdir(exist_ok=True)
    session = Path(folder.parent, f"{folder.name}.typed")
    session.mkdir()
    script = ["exec 2>&1"]
    for number, step in enumerate(todo):
        if isinstance(step, WrittenFile):
            (session / str(number)).write_text(step.text)
            script.append(f'cp "{session}/{number}" ./{step.name}')
        else:
            # the status goes through, for whoever asks for $?
            script.append(f'({{ exit "${{_status:-0}}"; }}); {step.line}')
            script.append(f'_status=$?; printf "\\n\\036{number}\\n"')
    done = subprocess.run(
        ["bash", "--norc", "-c", "\n".join(script)],
        cwd=folder,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        errors="replace",
        timeout=seconds,
        check=False,
    )
    typed = {str(number): step for number, step in enumerate(todo) if isinstance(step, Command)}
    answers = re.findall(r"(.*?)\n\036(\d+)\n", done.stdout, re.DOTALL)
    for answer, number in answers:
        step = typed.pop(number)
        said = answer if not answer or answer.endswith("\n") else answer + "\n"
        assert step.answered_by(said), f"$ {step.line}\n{said}\nand not\n{step.answer}"
    assert not typed, f"not come to:\n{typed}\n{done.stdout}"
