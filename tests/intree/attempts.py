# SPDX-License-Identifier: GPL-2.0-only
"""Builds one in-tree source in the ways that are compared: by kbridge, by Kbuild out of tree."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kbridge import proc
from kbridge.kernels.target import KernelTarget
from kbridge.vm.program import examine

KBUILD = "Kbuild"  # in the place of a code model

_BUILT_IN = re.compile(r"ERROR: modpost: .* exported twice\. Previous export was in vmlinux")


@dataclass(frozen=True)
class Attempt:
    """How one build went.  `error`: the line that says why it failed; '' where it did not.

    `modules`: those whose symbols the library needs.  `seconds`: by the clock on the wall.
    """

    source: str
    how: str
    error: str = ""
    modules: tuple[str, ...] = ()
    library: Path | None = None
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """Of its library, below a folder of all: drivers/net/dummy.so."""
        return f"{self.source.removesuffix('.c')}.so"


def _error_line(said: str, tree: Path) -> str:
    lines = said.replace(f"{tree}/", "").splitlines()
    for line in lines:
        found = re.search(
            r"(?:^kbridge: |\b)(?:fatal )?error: (.*)|^ERROR: (?:modpost: )?(.*)", line
        )
        if found:
            return found[1] or found[2]
    return lines[-1] if lines else "no word of why"


def kbridge(tree: Path, source: str, target: KernelTarget, code: str, folder: Path) -> Attempt:
    """kbridge build --shared --kmod SOURCE --code CODE, a process of its own as users run it."""
    # named as the module: its name is KBUILD_MODNAME, which some put in 16 bytes
    library = folder / code / f"{source.removesuffix('.c')}.so"
    words: list[str | Path] = ["build", "--shared", "-q", "--kernel", target.release]
    words += ["--kmod", tree / source, "--code", code, "-o", library]
    start = time.perf_counter()
    done = proc.run(
        [sys.executable, "-m", "kbridge", *words],
        env={"NO_COLOR": "1"},
        check=False,
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        return Attempt(source, code, _error_line(done.stderr, tree), seconds=seconds)
    needed = tuple(name for name in examine(str(library)).modules if name)
    return Attempt(source, code, modules=needed, library=library, seconds=seconds)


def _external_module(folder: Path, tree: Path, source: str) -> None:
    """The folder of an external module of the one file; its own folder is on the include path."""
    folder.mkdir(parents=True)
    file = tree / source
    (folder / file.name).symlink_to(file)
    lines = [f"obj-m := {file.stem}.o", f"ccflags-y := -I{file.parent}"]
    (folder / "Makefile").write_text("\n".join(lines) + "\n")


def _make(target: KernelTarget, folder: Path, *words: str) -> proc.Result:
    return proc.run(
        ["make", "-C", target.kdir, f"M={folder}", *words, "modules"],
        env={"MAKEFLAGS": "", "V": "0"},
        check=False,
    )


def kbuild(tree: Path, source: str, target: KernelTarget, folder: Path) -> Attempt:
    """The external-module build of the one file; `library` is the .ko, where one was made.

    That the kernel image has the very module built in, and so its exports twice, is no failure:
    the file was compiled, and every symbol that it needs is there.
    """
    where = folder / KBUILD / source.removesuffix(".c")
    _external_module(where, tree, source)
    start = time.perf_counter()
    done = _make(target, where)
    seconds = time.perf_counter() - start
    made = where / f"{Path(source).stem}.ko"
    if made.is_file():
        return Attempt(source, KBUILD, library=made, seconds=seconds)
    said = done.stdout + done.stderr
    words = [line for line in said.splitlines() if not _BUILT_IN.search(line)]
    if len(words) < len(said.splitlines()) and not any("ERROR: modpost" in one for one in words):
        return Attempt(source, KBUILD, seconds=seconds)
    return Attempt(source, KBUILD, _error_line("\n".join(words), tree), seconds=seconds)


def kbuild_together(
    tree: Path, sources: Sequence[str], target: KernelTarget, folder: Path, jobs: int
) -> int:
    """One external-module build of all files: how many .ko files it made."""
    for number, source in enumerate(sources):
        _external_module(folder / f"m{number}", tree, source)
    lines = [f"obj-m += m{number}/\n" for number in range(len(sources))]
    (folder / "Makefile").write_text("".join(lines))
    _make(target, folder, f"-j{jobs}")
    return len(list(folder.glob("*/*.ko")))


def identity(tree: Path) -> str:
    """The name and version of the source package that the tree is of."""
    return os.path.basename(tree).replace("_", " ")
