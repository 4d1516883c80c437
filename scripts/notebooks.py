#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Executes the notebooks of samples/notebooks in a virtual machine, and keeps what they show.

    .venv/bin/python scripts/notebooks.py [--kernel RELEASE] [--docs] [NOTEBOOK...]

Leaves each notebook with its outputs in build/notebooks, as a page of HTML beside it, and its
figures as pictures.  --docs also puts the figures that docs/notebooks.md shows there.

Not for working with them: samples/notebooks/README.md says how to do that.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import shlex
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from kbridge import log
from kbridge.errors import KbridgeError
from kbridge.vm import hostroot

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "samples/notebooks"
LIBRARIES = Path("build/notebooks")  # below ROOT, a folder a kernel
IN_DOCS = ("idt", "symbols", "pagewalk")
TAG = "figure:"
KBRIDGE = [sys.executable, "-m", "kbridge"]

_MEMORY = "1024"  # MiB; pandas and matplotlib in 512 leave little
_SECONDS = "2000"


def _run(
    words: Sequence[str],
    what: str,
    stdout: IO[bytes] | None = None,
    env: dict[str, str] | None = None,
) -> None:
    """What it says on stderr, and on stdout if that is nowhere else to go, is for the user."""
    done = subprocess.run(words, stdin=None, stdout=stdout, check=False, cwd=ROOT, env=env)
    if done.returncode:
        raise KbridgeError(f"{what} failed", hint="see what it says above")


def build(release: str) -> Path:
    """What the notebooks load, for that kernel; the folder."""
    folder = LIBRARIES / release
    # by relative names: make knows no name with a space
    variables = [f"OUT=../../{folder}", f"KERNEL={release}", f"KBRIDGE={shlex.join(KBRIDGE)}"]
    _run(["make", "-s", "-C", str(SOURCES.relative_to(ROOT)), *variables], "building the libraries")
    return ROOT / folder


def execute(notebooks: Sequence[Path], release: str, how: Sequence[str], output: Path) -> None:
    """All in one boot; `how`: more words for kbridge run."""
    environment = {
        **os.environ,
        "KB_NOTEBOOKS": str(build(release)),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    machine = ["--root", "host", "--kernel", release, "--memory", _MEMORY]
    words = ["run", "-q", *machine, "--timeout", _SECONDS, *how, SOURCES / "execute.sh"]
    with tempfile.TemporaryFile() as made:
        command = [*KBRIDGE, *map(str, (*words, *notebooks))]
        _run(command, "a notebook", stdout=made, env=environment)
        made.seek(0)
        with tarfile.open(fileobj=made) as tar:
            for one in tar.getmembers():  # a filter for extractall() comes with Python 3.11.4
                content = tar.extractfile(one) if one.isfile() else None
                if content:
                    (output / Path(one.name).name).write_bytes(content.read())


def figures(notebook: Path) -> Iterator[tuple[str, bytes]]:
    """The pictures of an executed notebook whose cells are tagged as figures: name and PNG."""
    for cell in json.loads(notebook.read_text())["cells"]:
        tags = cell["metadata"].get("tags", [])
        name = next((tag.removeprefix(TAG) for tag in tags if tag.startswith(TAG)), None)
        for shown in cell.get("outputs", []):
            if name and "image/png" in shown.get("data", {}):
                yield name, base64.b64decode(shown["data"]["image/png"])


def keep(notebooks: Sequence[Path], output: Path, *, docs: bool) -> None:
    """Pages and figures, beside the executed notebooks in `output`."""
    executed = [output / one.name for one in notebooks]
    html = ["-m", "nbconvert", "--to", "html", "--log-level", "WARN"]
    _run([sys.executable, *html, *map(str, executed)], "making pages of the notebooks")
    for notebook in executed:
        for name, picture in figures(notebook):
            (output / f"{name}.png").write_bytes(picture)
            if docs and name in IN_DOCS:
                (ROOT / f"docs/notebooks-{name}.png").write_bytes(picture)


def arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("notebooks", nargs="*", type=Path, metavar="NOTEBOOK", help="(default: all)")
    add("--kernel", metavar="RELEASE", help="one with 9p (default: the newest that is here)")
    add("--output", type=Path, default=ROOT / LIBRARIES, metavar="DIR", help="(build/notebooks)")
    add("--docs", action="store_true", help="also write the figures of docs/notebooks.md")
    add("--run", action="append", default=[], metavar="WORD", help="a word for kbridge run")
    return parser.parse_args(words)


def main(words: Sequence[str]) -> int:
    given = arguments(words)
    try:
        notebooks = [one.absolute() for one in given.notebooks] or sorted(SOURCES.glob("*.ipynb"))
        for one in notebooks:
            if not one.is_file():
                raise KbridgeError(f"{one}: no such notebook", hint=f"they are in {SOURCES}")
        release = given.kernel or hostroot.newest()
        hostroot.find(release)
        hostroot.headers(release)
        given.output.mkdir(parents=True, exist_ok=True)
        execute(notebooks, release, given.run, given.output)
        keep(notebooks, given.output, docs=given.docs)
    except KbridgeError as problem:
        log.error(problem)
        return 1
    except OSError as problem:
        log.error(KbridgeError(f"{problem.filename}: {problem.strerror}", hint="--output DIR"))
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"executed on kernel {release}: {given.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
