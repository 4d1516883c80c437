# SPDX-License-Identifier: GPL-2.0-only
"""`--root FOLDER`: finds out about PROG where its root is a folder, as a container's is.

Paths are those in that root: a symlink, be it absolute, never leads out of it.  Nothing of the
folder is run here, its loader neither, so libraries are looked for as ld.so(8) says; what is not
found so is left to the loader in the guest, which says it.

Not for how the guest gets the folder (share.py).
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections import deque
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from kbridge.errors import KbridgeError, UsageError
from kbridge.vm import program
from kbridge.vm.program import NOT_EXECUTABLE, NOT_FOUND, Program

PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")

_MAX_LINKS = 40  # MAXSYMLINKS in linux/namei.h
_TRIPLET = "x86_64-linux-gnu"
# What ld.so looks through last: glibc's own, Debian's, Fedora's.
_LIBRARIES = (
    f"/lib/{_TRIPLET}",
    f"/usr/lib/{_TRIPLET}",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
)
_INCLUDE = re.compile(r"^\s*include\s+(\S+)", re.MULTILINE)
_FOLDER = re.compile(r"^\s*(/[^\s:=]*)", re.MULTILINE)


def folder(name: str) -> Path:
    """The root that `name` is.  Raises KbridgeError where it cannot be one."""
    path = Path(name).absolute()
    try:
        there = bool(name) and path.exists()
    except PermissionError as problem:
        raise _denied(f"--root {name}: {problem.strerror}") from problem
    if not there:
        raise UsageError(
            f"--root {name}: no such folder",
            hint="host is this machine's root; a container's: buildah mount CONTAINER",
        )
    if not path.is_dir():
        raise UsageError(
            f"--root {name}: not a folder",
            hint="unpack an archive first: mkdir DIR && tar -x -f FILE -C DIR",
        )
    if not os.access(path, os.R_OK | os.X_OK):
        raise _denied(f"--root {name}: Permission denied")
    return path


def _denied(message: str) -> KbridgeError:
    return KbridgeError(
        message,
        hint="run kbridge as the folder's owner; for a rootless container: buildah unshare "
        "kbridge run ... (or podman unshare)",
    )


def real(root: Path, name: str | PurePosixPath) -> PurePosixPath:
    """The path in `root` that `name` (absolute) leads to, no symlink left in it.

    Raises OSError as open() does in that root.
    """
    todo = deque(PurePosixPath(name).parts[1:])
    done, left = PurePosixPath("/"), _MAX_LINKS
    while todo:
        word = todo.popleft()
        if word == "..":
            done = done.parent
            continue
        step = done / word
        mode = os.lstat(host(root, step)).st_mode
        if stat.S_ISLNK(mode):
            left -= 1
            if left < 0:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            text = PurePosixPath(os.readlink(host(root, step)))
            done = PurePosixPath("/") if text.is_absolute() else done
            todo.extendleft(reversed([part for part in text.parts if part != "/"]))
        elif todo and not stat.S_ISDIR(mode):
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        else:
            done = step
    return done


def host(root: Path, path: PurePosixPath) -> Path:
    """Where a path without symlinks is on this machine."""
    return root / str(path).lstrip("/")


def _find(root: Path, name: str | PurePosixPath) -> Path | None:
    """The file on this machine, None where none is there or it may not be seen.

    What is no regular file (a device, a pipe) is none: it could be read for ever.
    """
    try:
        found = host(root, real(root, name))
        return found if found.is_file() else None
    except (OSError, ValueError):  # ValueError: a NUL in a damaged file's words
        return None


def _inside(root: Path, name: str) -> str:
    """What the path of this machine `name` is in `root`; '' where it is not there."""
    path, top = Path(os.path.realpath(name)), Path(os.path.realpath(root))
    return f"/{path.relative_to(top)}" if path.is_relative_to(top) and path != top else ""


def locate(root: Path, name: str) -> PurePosixPath:
    """PROG's path in `root`: a path from its top, or without a slash a name in PATH."""
    if not name:
        raise KbridgeError("PROG is empty", hint="name a program", status=NOT_FOUND)
    if "/" in name:
        return PurePosixPath("/", name)
    for place in PATH:
        found = _find(root, f"{place}/{name}")
        if found and os.access(found, os.X_OK):
            return PurePosixPath(place, name)
    raise KbridgeError(
        f"{name}: not found in {root} (looked in {', '.join(PATH)})",
        hint="give the program's path in that root",
        status=NOT_FOUND,
    )


def _place(root: Path, path: PurePosixPath, name: str) -> Path:
    """PROG on this machine."""
    try:
        found = host(root, real(root, path))
        if not found.is_dir() and not found.is_file():  # of a folder, program.py tells
            raise KbridgeError(
                f"{path} in {root}: neither a file nor a folder",
                hint="name a program",
                status=NOT_EXECUTABLE,
            )
        return found
    except PermissionError as problem:
        raise _denied(f"{path} in {root}: {problem.strerror}") from problem
    except OSError as problem:
        inside = _inside(root, name)
        raise KbridgeError(
            f"{path} in {root}: {problem.strerror}",
            hint=f"paths are those in that root: did you mean {inside}?"
            if inside
            else "PROG is a path in that root, not one of this machine",
            status=NOT_FOUND,
        ) from problem


def _interpreter(root: Path, path: PurePosixPath, interpreter: str) -> Path:
    found = _find(root, PurePosixPath("/", interpreter))
    if found is None:
        raise KbridgeError(
            f"{path}: its interpreter {interpreter} is not in {root}",
            hint="put it there (of a C program: the C library), or link the program statically",
            status=NOT_FOUND,
        )
    return found


# Its libraries


def _listed(root: Path, name: str, depth: int = 0) -> Iterator[str]:
    """The folders of /etc/ld.so.conf, and of the files that it includes."""
    found = _find(root, name)
    if found is None or depth > 3:
        return
    text = found.read_text(errors="replace")
    yield from _FOLDER.findall(text)
    for pattern in _INCLUDE.findall(text):
        place = PurePosixPath("/etc", pattern)
        try:
            there = host(root, real(root, place.parent))
        except OSError:
            continue
        for file in sorted(there.glob(place.name)):
            yield from _listed(root, str(place.parent / file.name), depth + 1)


def _dynamic(file: Path, path: PurePosixPath) -> tuple[list[str], list[str]]:
    """The libraries that a file needs, and the folders that it names for them."""
    elf = program.parsed(file)
    section = next(program.segments(elf, "PT_DYNAMIC"), None)
    needed: list[str] = []
    places: list[str] = []
    tags: Any = section.iter_tags() if section else ()
    for tag in tags:
        if tag.entry.d_tag == "DT_NEEDED":
            needed.append(tag.needed)
        elif tag.entry.d_tag in ("DT_RPATH", "DT_RUNPATH"):
            words = getattr(tag, "rpath", None) or tag.runpath
            places += [
                re.sub(r"\$(ORIGIN|\{ORIGIN\})", str(path.parent), w) for w in words.split(":")
            ]
    return needed, [place for place in places if place.startswith("/")]


def _libraries(root: Path, file: Path, path: PurePosixPath) -> list[Path]:
    """The files that the program's loader would map for it, as far as they are found."""
    usual = [*_listed(root, "/etc/ld.so.conf"), *_LIBRARIES]
    found: dict[str, Path] = {}
    todo = deque([(file, path)])
    while todo:
        file, path = todo.popleft()
        try:
            needed, places = _dynamic(file, path)
        except Exception:  # pyelftools raises whatever a damaged file leads it to
            continue  # the loader in the guest says what it thinks of it
        for name in needed:
            ways = [PurePosixPath(place, name) for place in (*places, *usual)]
            way = next((one for one in ways if name not in found and _find(root, one)), None)
            if way:
                found[name] = host(root, real(root, way))
                todo.append((found[name], real(root, way)))
    return list(found.values())


def examine(root: Path, name: str) -> Program:
    """All about PROG.  Raises KbridgeError with status 126 (not executable) or 127 (not found)."""
    path = locate(root, name)
    file = _place(root, path, name)
    elf = program.checked(file, scripts=True)
    if elf is None:
        first = file.read_bytes()[2:].split(b"\n")[0].decode("utf-8", "replace").split()
        if first:
            _interpreter(root, path, first[0])
        return Program(Path(path), (file,), None)
    loader = [_interpreter(root, path, one) for one in program.interpreters(elf, file)]
    libraries = _libraries(root, file, real(root, path)) if loader else []
    return program.of_files(Path(path), [file, *loader, *libraries])
