# SPDX-License-Identifier: GPL-2.0-only
"""Which compiler a kernel was built with, which one compiles kmods, and what a difference means.

LLVM (as for Kbuild: 1, -16 or /path/bin/) asks for clang.  For a kernel that gcc built, Kbuild
then needs to be told more than that: its configuration says which flags the compiler takes, and
header packages name a compiler of their own.  Not for running a compiler.
"""

from __future__ import annotations

import functools
import itertools
import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from kbridge import log, paths
from kbridge.errors import KbridgeError, UsageError
from kbridge.kernels import headers
from kbridge.kernels.target import KernelTarget

# What Kbuild's makefiles (not the headers) ask of a configuration, as clang would have it set:
# which branch of compiler flags to take, and no -mrecord-mcount, which clang has not.
_CLANG = (
    "CONFIG_CC_IS_GCC=",
    "CONFIG_CC_IS_CLANG=y",
    "CONFIG_LD_IS_BFD=",
    "CONFIG_LD_IS_LLD=y",
    "CONFIG_AS_IS_GNU=",
    "CONFIG_AS_IS_LLVM=y",
    "CONFIG_GCC_PLUGINS=",
    "CONFIG_FTRACE_MCOUNT_USE_CC=",
)
# gcc's names of warnings; and 6.12's headers name the per-CPU segment twice, which is harmless
_CLANG_WARNINGS = ("-Wno-unknown-warning-option", "-Wno-duplicate-decl-specifier")

# Programs that start the compiler named after them, here or elsewhere, or take its output from a
# cache.
_LAUNCHERS = ("ccache", "distcc", "icecc", "sccache")

# Options by which one compiler lays out structures, or calls functions, as the other cannot.
_BINDING = {
    "CONFIG_RANDSTRUCT": "shuffles the members of structures",
    "CONFIG_GCC_PLUGIN_RANDSTRUCT": "shuffles the members of structures",
    "CONFIG_CFI_CLANG": "checks the type of every function that it calls through a pointer",
}


@dataclass(frozen=True)
class Compiler:
    """`family` is gcc or clang, `version` its three numbers, or as many as it says."""

    family: str
    version: str

    @property
    def major(self) -> str:
        return self.version.partition(".")[0]

    def __str__(self) -> str:
        return f"{self.family} {self.version}"


def parse(text: str) -> Compiler | None:
    """Read the first line of COMPILER --version; None for what is neither gcc nor clang."""
    clang = re.search(r"clang version (\d+(?:\.\d+)*)", text)
    if clang:
        return Compiler("clang", clang[1])
    # gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0: the version is what follows the parentheses
    gcc = re.search(r"gcc.*?(\d+\.\d+\.\d+)(?!.*\d+\.\d+\.\d+)", text, re.IGNORECASE)
    return Compiler("gcc", gcc[1]) if gcc else None


def _configuration(target: KernelTarget) -> dict[str, str]:
    return headers.configuration(target.kdir) or {}


def of_kernel(target: KernelTarget) -> Compiler | None:
    """The compiler that built the kernel, where its headers tell."""
    return parse(_configuration(target).get("CONFIG_CC_VERSION_TEXT", ""))


def asked_for() -> str | None:
    """The clang that LLVM asks for, named as Kbuild does; None where it asks for none."""
    llvm = os.environ.get("LLVM", "")
    if not llvm:
        return None
    if llvm.endswith("/"):
        return f"{llvm}clang"
    return f"clang{llvm}" if llvm.startswith("-") else "clang"


def from_environment(variable: str, default: str) -> list[str]:
    """The words of CC or CXX; a blank one is none.  Raises UsageError for a quote without end."""
    value = os.environ.get(variable, "")
    try:
        return shlex.split(value) or [default]
    except ValueError as problem:
        raise UsageError(
            f"{variable}={value}: {problem}", hint=f"name a compiler: {variable}={default}"
        ) from problem


def launcher() -> list[str]:
    """What stands before the compiler in CC ("ccache gcc", as in `make CC=...`), if anything.

    The kmod's compiler is the one that Kbuild names, whatever CC says; but it is started the same
    way.
    """
    words = from_environment("CC", "gcc")
    return list(itertools.takewhile(lambda word: os.path.basename(word) in _LAUNCHERS, words))


def header(target: KernelTarget) -> Path | None:
    """What the compiler includes ahead of all else for this kernel; None: nothing."""
    return clang_header(target) if asked_for() else None


def clang_header(target: KernelTarget) -> Path | None:
    """What clang has to include ahead of all else for this kernel; None: nothing."""
    kernel = of_kernel(target)
    return paths.source("kernel", "clang.h") if kernel and kernel.family == "gcc" else None


def make_variables(target: KernelTarget, header: Path | None = None) -> list[str]:
    """What make needs beside LLVM itself to compile with clang for this kernel.

    `header` is a copy of header()'s file in a path that Kbuild takes: one without a space.
    Raises KbridgeError where the configuration binds the kernel to its own compiler.
    """
    clang = asked_for()
    if clang is None:
        return []
    words = [f"CC={clang}"]  # Debian's header packages name gcc, whatever LLVM says
    kernel = of_kernel(target)
    if kernel and kernel.family == "gcc":
        _refuse(target, kernel, clang)
        included = f"-include {header}" if header else None
        flags = filter(None, (os.environ.get("KCFLAGS"), *_CLANG_WARNINGS, included))
        words += [*_CLANG, f"KCFLAGS={' '.join(flags)}"]
    return words


def _refuse(target: KernelTarget, kernel: Compiler, other: str) -> None:
    known = _configuration(target)
    for option, meaning in _BINDING.items():
        if known.get(option) == "y":
            raise KbridgeError(
                f"kernel {target.release} was built with {option} by {kernel.family}, which "
                f"{meaning}: {other} cannot compile for it",
                hint=f"use {kernel}" + (": leave LLVM unset" if kernel.family == "gcc" else ""),
            )


@functools.cache
def compare(target: KernelTarget, version: str) -> None:
    """Warn, once, of a kmod's compiler that is not the kernel's; `version` is what it says.

    Raises KbridgeError where the configuration binds the kernel to its own compiler.
    """
    kernel, mine = of_kernel(target), parse(version)
    if not kernel or not mine or (kernel.family, kernel.major) == (mine.family, mine.major):
        return
    if kernel.family != mine.family:
        _refuse(target, kernel, mine.family)
    log.warning(
        f"kernel {target.release} was built with {kernel}, the kmod is compiled with {mine}: "
        "structures are laid out alike, but what the kernel's configuration says of its compiler "
        f"is taken to hold for {mine.family} {mine.major} too; if a kmod does not compile or "
        f"objtool complains, use {kernel.family} {kernel.major}"
    )
