# SPDX-License-Identifier: GPL-2.0-only
"""Many programs in one boot: a shell of busybox runs them in turn."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from conftest import Kbridge

LIBRARIES = ("/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/libc.so.6")


def console_log_environment(log: Path) -> dict[str, str]:
    return {**os.environ, "KBRIDGE_CONSOLE_LOG": str(log)}


def build(
    kbridge: Kbridge, app: Path, kmods: Path | Sequence[Path], out: Path, release: str, *how: str
) -> Path:
    words = [kmods] if isinstance(kmods, Path) else kmods
    named = [word for path in words for word in ("--kmod", path)]
    done = kbridge("build", app, *named, "-o", out, "--kernel", release, *how)
    assert done.returncode == 0, done.stderr
    return out


@dataclass(frozen=True)
class Guest:
    kbridge: Kbridge
    release: str

    def run(
        self,
        commands: Mapping[str, Path],
        log: Path,
        env: Mapping[str, str] | None = None,
        how: Sequence[str] = (),
    ) -> dict[str, str]:
        """What each command line printed, with its status in the last line.

        A line is the program's name and words, or LABEL: and these; the value is its path.
        `how` are more words for kbridge run.
        """
        lines = [
            f"echo '== {line}'; cd {shlex.quote(str(path.parent))}; "
            f'./{line.rpartition(": ")[2]}; echo "status $?"'
            for line, path in commands.items()
        ]
        files = [*LIBRARIES, *sorted({str(path) for path in commands.values()})]
        share = [word for file in files for word in ("--file", f"{file}:{file}")]
        words = ["run", "--kernel", self.release, "--timeout", "240", *share, *how]
        shell = ["/bin/busybox", "sh", "-c", "; ".join(lines)]
        env = {**console_log_environment(log), **(env or {})}
        done = self.kbridge(*words, *shell, env=env)
        assert done.returncode == 0, done.stderr
        parts = done.stdout.split("== ")[1:]
        return {part.partition("\n")[0]: part.partition("\n")[2] for part in parts}
