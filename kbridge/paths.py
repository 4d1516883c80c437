# SPDX-License-Identifier: GPL-2.0-only
"""Where kbridge's own files are, where it keeps what it made, and how it writes files."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from kbridge.errors import KbridgeError, UsageError

_PACKAGE = Path(__file__).resolve().parent


def source(*parts: str) -> Path:
    """A file or folder that is shipped with kbridge: templates, kernel, runtime, guest.

    An installed wheel carries them in kbridge/data; a checkout has them beside the package.
    """
    installed = _PACKAGE / "data"
    return (installed if installed.is_dir() else _PACKAGE.parent).joinpath(*parts)


def _cache_root() -> Path:
    """KBRIDGE_CACHE, else XDG_CACHE_HOME/kbridge, else ~/.cache/kbridge."""
    base = os.environ.get("KBRIDGE_CACHE")
    if base:
        return Path(base)
    xdg = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(xdg) if xdg else Path.home() / ".cache") / "kbridge"
    except RuntimeError as problem:  # a user without HOME, and unknown to this machine
        raise KbridgeError(
            "no home folder, so no place for the cache",
            hint="set KBRIDGE_CACHE to a folder that you can write",
        ) from problem


def cache_place(*parts: str) -> Path:
    """Where a folder or file of the user's cache is, or would be: for who only looks."""
    return _cache_root().absolute().joinpath(*parts)


def cache(*parts: str) -> Path:
    """A folder in the user's cache, made if it is not there."""
    root, folder = _cache_root(), cache_place(*parts)
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise KbridgeError(
            f"cannot make the cache folder {folder}: {problem.strerror}",
            hint="set KBRIDGE_CACHE to a folder that you can write",
        ) from problem
    return folder


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One kbridge at a time: others wait here, and then look whether there is anything left to do.

    Where the file system knows no locks all go on, which costs them time only: files are replaced
    whole.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def fingerprint(files: Iterable[Path], *words: str) -> str:
    """A key for what is made of these files and words."""
    key = hashlib.sha256("\0".join(words).encode())
    for file in sorted(files):
        key.update(file.name.encode() + b"\0" + file.read_bytes())
    return key.hexdigest()[:16]


def make_parent(path: Path) -> None:
    """Make the folder that `path` is to be in."""
    try:
        with _naming(path):
            path.parent.mkdir(parents=True, exist_ok=True)
    except KbridgeError as problem:
        if path.parent.exists() and not path.parent.is_dir():
            problem.message = f"cannot write {path}: {path.parent} is no folder"
        raise


class Output(NamedTuple):
    """A file to write; `check` gets it before it takes its place, and raises if it is wrong."""

    path: Path
    content: bytes
    mode: int = 0o644
    check: Callable[[Path], None] | None = None


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        full = problem.errno in (errno.ENOSPC, errno.EDQUOT)
        raise KbridgeError(
            f"cannot write {path}: {problem.strerror}",
            hint="make room there, or choose another place" if full else "choose another place",
        ) from problem


def write_together(outputs: Iterable[Output]) -> None:
    """Write whole files, all or none: readers see the old content or the new one."""
    done: list[tuple[Path, Path]] = []
    try:
        for one in outputs:
            with _naming(one.path):
                handle, name = tempfile.mkstemp(dir=one.path.parent, prefix=f".{one.path.name}.")
                done.append((Path(name), one.path))
                with os.fdopen(handle, "wb") as stream:
                    stream.write(one.content)
                if one.check:
                    one.check(Path(name))
                Path(name).chmod(one.mode)
        for temporary, path in done:
            with _naming(path):
                temporary.replace(path)
    finally:
        for temporary, _ in done:
            temporary.unlink(missing_ok=True)


def write_atomically(
    path: Path,
    data: bytes | str,
    *,
    mode: int = 0o644,
    check: Callable[[Path], None] | None = None,
) -> None:
    """Write one file as `write_together` does."""
    content = data.encode() if isinstance(data, str) else data
    write_together([Output(path, content, mode, check)])


def replace_link(path: Path, target: Path) -> None:
    """Make `path` a symbolic link to `target`, in place of the one that is there."""
    with _naming(path), tempfile.TemporaryDirectory(dir=path.parent, prefix=".link.") as folder:
        link = Path(folder) / path.name
        link.symlink_to(target)
        link.replace(path)


def check_output(path: Path, ours: bytes = b"\x7fELF") -> None:
    """Refuse to replace what does not start like our output: a device, a folder, a source."""
    real = path.resolve()  # also where a folder of "folder/../file" is yet to be made
    if real.is_dir():
        raise UsageError(f"{path}: is a folder", hint="name a file in it")
    if not real.exists():
        return
    try:
        if not real.is_file():
            raise UsageError(f"{path}: not a regular file", hint="name another output")
        with real.open("rb") as stream:
            start = stream.read(len(ours))
    except OSError as problem:
        raise KbridgeError(
            f"cannot write {path}: {problem.strerror}", hint="name another output"
        ) from problem
    if start not in (b"", ours):
        raise UsageError(
            f"{path}: is there and not what kbridge writes, so it is not replaced",
            hint="remove it first, or name another output",
        )


def _temporary_place() -> str:
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:  # it tried to write in all that it knows of
        return os.environ.get("TMPDIR") or "/tmp"


@contextmanager
def scratch(prefix: str = "kbridge-") -> Iterator[Path]:
    """A temporary folder whose path Kbuild accepts: no space, no colon.

    Kbuild refuses M= paths with either, so a TMPDIR that has one is passed over.
    """
    candidates = [_temporary_place(), "/tmp", "/var/tmp"]
    usable = [c for c in candidates if not set(c) & set(" \t:") and os.access(c, os.W_OK)]
    if not usable:
        raise KbridgeError(
            "no temporary folder that can be written, without a space or colon: looked at "
            f"{', '.join(dict.fromkeys(candidates))}",
            hint="set TMPDIR to a writable folder with a plain path: export TMPDIR=DIR",
        )
    try:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=usable[0]))
    except OSError as problem:
        raise KbridgeError(
            f"cannot make a temporary folder in {usable[0]}: {problem.strerror}"
        ) from problem
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
