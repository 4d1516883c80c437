# SPDX-License-Identifier: GPL-2.0-only
"""kbridge new: a project that builds and runs at once, from templates/new.

The folder is made under another name beside it and renamed when it is whole.  What a killed
`kbridge new` left is removed by the next one of that name.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shlex
import shutil
import tempfile
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kbridge import log, templates
from kbridge.errors import KbridgeError, UsageError
from kbridge.kernels import target

LONGEST = 64
_SUFFIX = ".kbridge-new-"

# template -> file of the project
_FILES = {
    "app.c.j2": "{name}.c",
    "kmod.c.j2": "{name}_kmod.c",
    "kmod.h.j2": "{name}_kmod.h",
    "gitignore.j2": ".gitignore",
    "README.md.j2": "README.md",
}
_RULES = {"make": {"Makefile.j2": "Makefile"}, "scons": {"SConstruct.j2": "SConstruct"}}


@dataclass(frozen=True)
class NewRequest:
    """`folder`: of the project, whose last part is its name.  `kernel`: None for the default.
    `build`: what builds it, of options.BUILDS.
    """

    folder: Path
    kernel: str | None = None
    build: str = "make"


def check_name(name: str) -> None:
    """Raise UsageError for what cannot name a program, its files and, with _ for -, functions."""
    if not name:
        raise UsageError("an empty name", hint="kbridge new NAME, as in: kbridge new hello")
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name) and len(name) <= LONGEST:
        return
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    like = re.sub(r"[^A-Za-z0-9_-]+", "_", plain).lstrip("_-0123456789")[:LONGEST].rstrip("_-")
    raise UsageError(
        f"{name!r}: not a name for a program and its functions",
        hint=f"up to {LONGEST} letters, digits, - and _, a letter first: {like or 'hello'}",
    )


def _check(request: NewRequest) -> None:
    check_name(request.folder.name)
    if request.folder.is_symlink() or request.folder.exists():
        raise UsageError(
            f"{request.folder}: is there already", hint="choose another name, or remove it first"
        )
    if not request.folder.parent.is_dir():
        parent = request.folder.parent
        raise UsageError(
            f"{parent}: no such folder", hint=f"make it first: mkdir -p {shlex.quote(str(parent))}"
        )
    if request.kernel:
        target.find(request.kernel)


def _contents(request: NewRequest) -> dict[str, str]:
    """The project's files."""
    environment = templates.environment("new", trim_blocks=True)
    name = request.folder.name
    known = {
        "name": name,
        "c_name": name.replace("-", "_"),
        "kernel": request.kernel,
        "build": request.build,
    }
    return {
        file.format(name=name): environment.get_template(template).render(known)
        for template, file in {**_FILES, **_RULES[request.build]}.items()
    }


def _remove_left(folder: Path) -> None:
    """Remove what killed runs left; a run that is still at work holds a lock."""
    for left in folder.parent.glob(f".{folder.name}{_SUFFIX}*"):
        with contextlib.suppress(OSError):
            handle = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(handle)


@contextlib.contextmanager
def _unfinished(folder: Path) -> Iterator[Path]:
    """A folder beside the one to be made, gone afterwards if nobody renamed it."""
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}{_SUFFIX}", dir=folder.parent))
    try:
        handle = os.open(made, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield made
        finally:
            os.close(handle)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _write(files: dict[str, str], folder: Path) -> None:
    for name, text in files.items():
        (folder / name).write_text(text)
    mask = os.umask(0)
    os.umask(mask)
    folder.chmod(0o777 & ~mask)


def new(request: NewRequest) -> None:
    """Make the project.  Raises UsageError for a bad name or a folder that is there."""
    _check(request)
    files = _contents(request)
    try:
        _remove_left(request.folder)
        with _unfinished(request.folder) as made:
            _write(files, made)
            made.rename(request.folder)
    except OSError as problem:
        raise KbridgeError(
            f"cannot make {request.folder}: {problem.strerror}",
            hint="choose a place where you may write, with room: kbridge new PATH/NAME",
        ) from problem
    folder = shlex.quote(str(request.folder))
    log.info(f"made {request.folder}; next: cd {folder} && {request.build}")
