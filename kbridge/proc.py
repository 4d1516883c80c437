# SPDX-License-Identifier: GPL-2.0-only
"""The one place that starts other programs and waits for them."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kbridge import log
from kbridge.errors import CommandError

_GRACE_SECONDS = 5.0

_PACKAGES = {  # program -> Debian package, for the hint when it is missing
    "gcc": "gcc",
    "ld": "binutils",
    "as": "binutils",
    "readelf": "binutils",
    "objcopy": "binutils",
    "addr2line": "binutils",
    "make": "make",
    "cpio": "cpio",
    "depmod": "kmod",
    "modinfo": "kmod",
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    "ccache": "ccache",
    "distcc": "distcc",
    "qemu-system-x86_64": "qemu-system-x86",
}


@dataclass(frozen=True)
class Result:
    stdout: str
    stderr: str
    returncode: int


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The caller's environment with messages in English, so that they can be parsed."""
    env = dict(os.environ)
    env.pop("LC_ALL", None)
    env.update({"LC_MESSAGES": "C", "LANG": "C.UTF-8"})
    env.update(extra or {})
    return env


def describe_exit(returncode: int) -> str:
    """'exit status 3', or 'killed by SIGSEGV'."""
    if returncode < 0:
        try:
            return f"killed by {signal.Signals(-returncode).name}"
        except ValueError:
            return f"killed by signal {-returncode}"
    return f"exit status {returncode}"


def missing_program(program: str) -> CommandError:
    package = _PACKAGES.get(Path(program).name)
    hint = f"install it with: apt-get install {package}" if package else "install it, or check PATH"
    return CommandError(f"{program}: not found", hint=hint, returncode=127)


def _to_its_end(
    words: list[str], cwd: str | Path | None, env: Mapping[str, str], text: str | None
) -> subprocess.CompletedProcess[str]:
    """Run a command; one that an interrupt ends early gets the time to remove its own files."""
    with subprocess.Popen(
        words,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL if text is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
    ) as process:
        try:
            stdout, stderr = process.communicate(text)
        except BaseException:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE_SECONDS)
            process.kill()
            raise
    return subprocess.CompletedProcess(words, process.returncode, stdout, stderr)


def run(
    argv: Sequence[str | Path],
    *,
    cwd: str | Path | None = None,
    env: Mapping[str, str] | None = None,
    input: str | None = None,
    check: bool = True,
    what: str | None = None,
    hint: str | None = None,
) -> Result:
    """Run a command to its end and return what it printed.

    `env` is added to the caller's environment; `what` names the step in the error.
    Raises CommandError when the program is missing or (with `check`) when it fails.
    """
    words = [os.fspath(word) for word in argv]
    where = f"cd {shlex.quote(os.fspath(cwd))} && " if cwd else ""
    log.detail(where + shlex.join(words))
    try:
        done = _to_its_end(words, cwd, environment(env), input)
    except FileNotFoundError as problem:
        if cwd is not None and not Path(cwd).is_dir():
            raise CommandError(f"{cwd}: no such directory") from problem
        raise missing_program(words[0]) from problem
    except OSError as problem:
        raise CommandError(f"{words[0]}: {problem.strerror}") from problem
    if check and done.returncode:
        raise CommandError(
            f"{what or Path(words[0]).name} failed: {describe_exit(done.returncode)}",
            stderr=done.stderr or done.stdout,
            returncode=done.returncode,
            hint=hint,
        )
    return Result(done.stdout, done.stderr, done.returncode)


def open_standard_streams() -> None:
    """A closed descriptor 0, 1 or 2 would be taken by the next file that is opened; and Python has
    None for the stream of one that was closed when it started.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest that is free: this one
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(fd, "w" if fd else "r", closefd=False))


@contextlib.contextmanager
def standard_output() -> Iterator[None]:
    """Around what writes there: the error names it."""
    try:
        yield
    except OSError as problem:
        problem.filename = problem.filename or "standard output"
        raise
