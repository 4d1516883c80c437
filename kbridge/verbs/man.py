# SPDX-License-Identifier: GPL-2.0-only
"""kbridge man: writes the man pages into a folder, for packages and for `man -l`."""

from __future__ import annotations

import shlex
from pathlib import Path

from kbridge import log, manual, paths
from kbridge.errors import KbridgeError


def man(folder: Path) -> None:
    """Write every page.  Raises KbridgeError where the folder cannot be written."""
    made = [paths.Output(folder / name, text.encode()) for name, text in manual.pages()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise KbridgeError(
            f"cannot make {folder}: {problem.strerror}", hint="name a folder that you can write"
        ) from problem
    paths.write_together(made)
    one = shlex.quote(str(folder / "kbridge.1"))
    log.info(f"wrote {len(made)} man pages to {folder}; read one: man -l {one}")
