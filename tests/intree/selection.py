# SPDX-License-Identifier: GPL-2.0-only
"""Which in-tree sources are looked at: those that a list names, or all modules of a folder."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from kbridge.errors import KbridgeError, UsageError
from kbridge.kernels.target import KernelTarget

LIST = Path(__file__).with_name("6.1.txt")

_OBJECTS = re.compile(r"^obj-(?:\$\((CONFIG_\w+)\)|m)\s*[+:]?=(.*)$", re.MULTILINE)
_COMPOSITE = re.compile(r"^([\w-]+)-(?:y|m|objs|\$\(\w+\))\s*[+:]?=", re.MULTILINE)


def read(file: Path) -> list[str]:
    """The first word of each line, a path in the kernel tree; '#' starts a comment."""
    try:
        lines = file.read_text().splitlines()
    except OSError as problem:
        raise UsageError(f"{file}: {problem.strerror}", hint="name a list of sources") from problem
    return [line.split()[0] for line in lines if line.strip() and not line.startswith("#")]


def _configured(target: KernelTarget) -> set[str]:
    file = target.kdir / "include/config/auto.conf"
    try:
        return {line.partition("=")[0] for line in file.read_text().splitlines()}
    except OSError as problem:
        raise KbridgeError(f"cannot read {file}: {problem.strerror}") from problem


def _single_files(makefile: Path, configured: set[str] | None) -> Iterator[Path]:
    """The sources that by themselves are a module; None for `configured`: of any configuration."""
    text = makefile.read_text(errors="replace").replace("\\\n", " ")
    composite = set(_COMPOSITE.findall(text))
    for option, objects in _OBJECTS.findall(text):
        for name in objects.split():
            source = makefile.parent / f"{name.removesuffix('.o')}.c"
            if not name.endswith(".o") or name.removesuffix(".o") in composite:
                continue
            wanted = configured is None or not option or option in configured
            if wanted and source.is_file():
                yield source


def modules(tree: Path, folder: str, target: KernelTarget | None = None) -> list[str]:
    """Every module under `folder` that is one file, and that `target` is configured with.

    Without a target, all: many need symbols that a kernel has not, and Kbuild refuses them too.
    """
    top = tree / folder
    if not top.is_dir():
        raise UsageError(f"{folder}: no such folder in {tree}", hint="e.g. drivers/net/phy")
    configured = _configured(target) if target else None
    found = {
        str(source.relative_to(tree))
        for name in ("Makefile", "Kbuild")
        for makefile in top.rglob(name)
        for source in _single_files(makefile, configured)
        if re.search(r"^MODULE_LICENSE\b", source.read_text(errors="replace"), re.MULTILINE)
    }
    return sorted(found)
