# SPDX-License-Identifier: GPL-2.0-only
"""The fragment that Makefiles of other projects include: templates/kbridge.mk.j2, made to call
the very kbridge that was asked for it.  Not for what its rules call (verbs/stages.py).
"""

from __future__ import annotations

import hashlib
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from kbridge import __version__, paths, templates

NAME = "kbridge.mk"


def own_command() -> list[str]:
    """How another program calls this very kbridge."""
    script = Path(sys.argv[0])
    if script.name == "kbridge" and os.access(script, os.X_OK):
        return [str(script.absolute())]
    return [sys.executable, "-P", "-m", "kbridge"]


def text(command: Sequence[str]) -> str:
    """The fragment; `command` is how make is to call kbridge."""
    quoted = shlex.join(command).replace("$", "$$").replace("#", "\\#")
    return templates.filled(f"{NAME}.j2", command=quoted, version=__version__)


def key(content: str) -> str:
    """What tells the fragments of several kbridges apart, which may share a cache."""
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def file() -> Path:
    """The fragment in the cache: a file for each kbridge."""
    content = text(own_command())
    path = paths.cache("makefile", key(content)) / NAME
    if not path.is_file():
        paths.write_atomically(path, content)
    return path


def as_include(path: Path) -> str:
    """The path as `include` takes it: words of make end at a blank."""
    return str(path).replace(" ", "\\ ")
