# SPDX-License-Identifier: GPL-2.0-only
"""kbridge containerfile: how a program with a kmod is built in a container, from a template.

Runs no container tool: podman, buildah and docker read the same file.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kbridge import log, paths, proc, templates
from kbridge.errors import KbridgeError, UsageError
from kbridge.kernels import image as images
from kbridge.vm import hostroot

MARK = "# Written by"  # the first line: a file that starts so may be written over
_PROGRAMS = "/usr/local/bin"

# What no shell, no Containerfile and no JSON take for anything but itself, once it is quoted.
_FILE = re.compile(r"[\w./+@ -]+")
_NAME = re.compile(r"\w[\w.+-]*", re.ASCII)
# name:tag, name@digest, transport:path; buildah and podman know better what there is
_BASE = re.compile(r"\w[\w.:/@+-]*", re.ASCII)


@dataclass(frozen=True)
class ContainerfileRequest:
    """`app`, `kmod`: sources, in the folder that is copied into the container (this one).

    `kernel`: None for the newest that `kbridge run --root` can boot.  `output`: None for
    standard output.
    """

    base: str
    app: Sequence[Path] = ()
    kmod: Sequence[Path] = ()
    kernel: str | None = None
    output: Path | None = None


def _check_source(path: Path) -> None:
    if path.is_absolute() or ".." in path.parts:
        raise UsageError(
            f"{path}: not in this folder, which is what the container gets",
            hint="change to the folder with all sources, and name them from there",
        )
    if not path.is_file():
        raise UsageError(f"{path}: no such file", hint="name the sources as in: kbridge build")
    if not _FILE.fullmatch(str(path)) or str(path).startswith("-"):
        raise UsageError(
            f"{str(path)!r}: a Containerfile cannot name this file safely", hint="rename it"
        )


def _check(request: ContainerfileRequest) -> None:
    if not request.app or not request.kmod:
        what = "kmod source" if request.app else "app source"
        raise UsageError(f"no {what}", hint="as in: kbridge containerfile app.c --kmod kmod.c")
    for path in (*request.app, *request.kmod):
        _check_source(path)
    if not _NAME.fullmatch(request.app[0].stem):
        raise UsageError(
            f"{request.app[0].stem!r}: no name for a program in a container",
            hint="rename the first source: letters, digits and ._+-",
        )
    if not _BASE.fullmatch(request.base):
        raise UsageError(
            f"--base {request.base!r}: not the name of an image",
            hint="as in: --base docker.io/library/debian:bookworm-slim",
        )
    if request.kernel is not None and not images.is_release(request.kernel):
        raise UsageError(
            f"{request.kernel!r} is not a kernel release", hint="give it as uname -r says it there"
        )
    if request.output:
        paths.check_output(request.output, MARK.encode())


def _kernel(request: ContainerfileRequest) -> str:
    if request.kernel is not None:
        return request.kernel
    try:
        return hostroot.newest()
    except KbridgeError as problem:
        raise KbridgeError(
            f"no kernel is named, and none is here to go by: {problem.message}",
            hint="say which kernel the program is for: --kernel RELEASE",
        ) from problem


def text(request: ContainerfileRequest) -> str:
    """The file.  Raises UsageError."""
    _check(request)
    kernel = _kernel(request)
    kmods = [word for path in request.kmod for word in ("--kmod", str(path))]
    sources = shlex.join([*map(str, request.app), *kmods])
    words = f"kbridge containerfile --base {request.base} --kernel {kernel} {sources}"
    return templates.filled(
        "Containerfile.j2",
        mark=MARK,
        command=words,
        base=request.base,
        kernel=kernel,
        sources=sources,
        name=request.app[0].stem.lower(),
        program=f"{_PROGRAMS}/{request.app[0].stem}",
    )


def write(request: ContainerfileRequest) -> None:
    """Write it to the output, or to standard output.  Raises KbridgeError."""
    made = text(request)
    if request.output is None:
        with proc.standard_output():
            sys.stdout.write(made)
        return
    paths.make_parent(request.output)
    paths.write_atomically(request.output, made)
    if not Path("wheels").is_dir():
        log.info(
            f"wrote {request.output}; it wants kbridge in wheels/, as pip wheel makes it "
            "(docs/containers.md)"
        )
