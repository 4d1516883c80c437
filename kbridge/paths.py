# SPDX-License-Identifier: GPL-2.0-only
"""Where kbridge's own files are, where it keeps what it made, and how it writes files."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kbridge.errors import KbridgeError, UsageError

_PACKAGE = Path(__file__).resolve().parent


def source(*parts: str) -> Path:
    """A file or folder that is shipped with kbridge: templates, kernel, runtime, guest.

    An installed wheel carries them in kbridge/data; a checkout has them beside the package.
    """
    installed = _PACKAGE / "data"
    return (installed if installed.is_dir() else _PACKAGE.parent).joinpath(*parts)


def cache(*parts: str) -> Path:
    """A folder in the user's cache, made if it is not there.

    KBRIDGE_CACHE, else XDG_CACHE_HOME/kbridge, else ~/.cache/kbridge.
    """
    base = os.environ.get("KBRIDGE_CACHE")
    if base:
        root = Path(base)
    else:
        xdg = os.environ.get("XDG_CACHE_HOME")
        root = (Path(xdg) if xdg else Path.home() / ".cache") / "kbridge"
    folder = root.absolute().joinpath(*parts)
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise KbridgeError(
            f"cannot make the cache folder {folder}: {problem.strerror}",
            hint="set KBRIDGE_CACHE to a folder that you can write",
        ) from problem
    return folder


def fingerprint(files: Iterable[Path], *words: str) -> str:
    """A key for what is made of these files and words."""
    key = hashlib.sha256("\0".join(words).encode())
    for file in sorted(files):
        key.update(file.name.encode() + b"\0" + file.read_bytes())
    return key.hexdigest()[:16]


def write_atomically(path: Path, data: bytes | str, *, mode: int = 0o644) -> None:
    """Write a whole file or nothing: readers see the old content or the new one."""
    content = data.encode() if isinstance(data, str) else data
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as problem:
        raise KbridgeError(f"cannot write {path}: {problem.strerror}") from problem
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        temporary.chmod(mode)
        temporary.replace(path)
    except OSError as problem:
        raise KbridgeError(f"cannot write {path}: {problem.strerror}") from problem
    finally:
        temporary.unlink(missing_ok=True)


def check_output(path: Path) -> None:
    """Refuse to replace what is no program or library: a device, a folder, somebody's source."""
    real = path.resolve()  # also where a folder of "folder/../file" is yet to be made
    if real.is_dir():
        raise UsageError(f"{path}: is a folder", hint="name a file in it")
    if not real.exists():
        return
    try:
        if not real.is_file():
            raise UsageError(f"{path}: not a regular file", hint="name another output")
        with real.open("rb") as stream:
            start = stream.read(4)
    except OSError as problem:
        raise KbridgeError(
            f"cannot write {path}: {problem.strerror}", hint="name another output"
        ) from problem
    if start not in (b"", b"\x7fELF"):
        raise UsageError(
            f"{path}: is there and no program, so it is not replaced",
            hint="remove it first, or name another output",
        )


@contextmanager
def scratch(prefix: str = "kbridge-") -> Iterator[Path]:
    """A temporary folder whose path Kbuild accepts: no space, no colon.

    Kbuild refuses M= paths with either, so a TMPDIR that has one is passed over.
    """
    candidates = [tempfile.gettempdir(), "/tmp", "/var/tmp"]
    usable = [c for c in candidates if not set(c) & set(" \t:") and os.access(c, os.W_OK)]
    if not usable:
        raise KbridgeError(
            f"no temporary folder without a space or colon: looked at {', '.join(candidates)}",
            hint="set TMPDIR to a writable folder with a plain path",
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
