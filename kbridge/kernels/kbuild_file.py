# SPDX-License-Identifier: GPL-2.0-only
"""Reads a module's Kbuild file: its objects and their flags, as make itself evaluates it.

Only a file that the user names is read.  Not for building anything: what the file would have
built in sub-directories, or generated, has to be there.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kbridge import paths, proc
from kbridge.errors import CommandError, UsageError
from kbridge.kcompile import KMOD_SUFFIXES, Source, module_name
from kbridge.kernels.kbuild import MAKE_ENVIRONMENT, KbuildFlags
from kbridge.kernels.target import KernelTarget


@dataclass(frozen=True)
class KbuildFile:
    """One module of a Kbuild file.

    `module` is '' and `sources` are empty where the file lists no object: it gives flags only.
    """

    path: Path
    module: str
    sources: list[Source]
    ldflags: list[str]
    _values: Mapping[str, list[str]]

    def flagged(self, source: Path) -> Source:
        """A source with the flags that this file gives it."""
        kind, own = ("as", "AFLAGS_") if source.suffix == ".S" else ("cc", "CFLAGS_")
        stem = os.path.relpath(source.with_suffix(".o"), self.path.parent)
        removed = self._of(f"{kind}flags-remove", f"{own}REMOVE_{stem}")
        extra = self._of(f"{kind}flags", f"{own}{stem}")
        return Source(source, [word for word in extra if word not in removed], removed)

    def _of(self, *keys: str) -> list[str]:
        return [word for key in keys for word in self._values.get(key, ())]


def read(given: str, target: KernelTarget, flags: KbuildFlags) -> KbuildFile:
    """The module that `given`, FILE or FILE:MODULE, means.

    Raises UsageError for a file that cannot be read or evaluated, that lists several modules and
    none was named, or an object whose source is not there.
    """
    file, _, wanted = given.partition(":")
    path = Path(file)
    _check(path)
    values = _evaluate(path, target, flags)
    module, objects = _objects(path, values, wanted)
    found = KbuildFile(path, module_name(module), [], values.get("ldflags", []), values)
    found.sources.extend(found.flagged(_source(path, name)) for name in objects)
    return found


def _check(path: Path) -> None:
    if not path.is_file():
        raise UsageError(f"{path}: no such Kbuild file", hint="check the path given as kbuild")
    if not os.access(path, os.R_OK):
        raise UsageError(f"{path}: may not be read", hint=f"chmod +r {shlex.quote(str(path))}")
    odd = re.search(r"[\s:#$]", str(path.resolve()))
    if odd:
        raise UsageError(
            f"{path.resolve()}: make cannot handle {odd[0]!r} in the path of a Kbuild file",
            hint="move it, or name its sources and flags: --kmod, --kcflags",
        )


def _srctree(flags: KbuildFlags) -> str:
    """The folder of the kernel's own headers, which in Debian is not KDIR."""
    tail = "/include/linux/kconfig.h"
    found = [word.removesuffix(tail) for word in flags.compile if word.endswith(tail)]
    return found[0] if found else flags.kdir


def _evaluate(path: Path, target: KernelTarget, flags: KbuildFlags) -> dict[str, list[str]]:
    folder = path.resolve().parent
    config = target.kdir.resolve() / "include/config/auto.conf"
    variables = {
        "KBRIDGE_FILE": path.resolve(),
        "KBRIDGE_CONFIG": config,
        "KERNELRELEASE": target.release,
        "srctree": _srctree(flags),
        "src": folder,
        "obj": folder,
        "M": folder,
        "KBUILD_EXTMOD": folder,
        "SRCARCH": "x86",
    }
    words = [f"{name}={value}" for name, value in variables.items()]
    makefile = paths.source("templates", "kbuild-file.mk")
    command = ["make", "--silent", "--no-builtin-rules", "--no-builtin-variables"]
    command += ["-f", str(makefile), *words, "kbridge-print"]
    try:
        done = proc.run(command, cwd=folder, env=MAKE_ENVIRONMENT)
    except CommandError as problem:
        raise UsageError(
            f"{path}: make cannot evaluate it: {_first_line(problem.stderr)}",
            hint="it has to be a Kbuild file, as for make M=...",
        ) from problem
    values: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        key, _, value = line.partition(" ")
        values[key] = _absolute(_split(path, value), folder)
    return values


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "no reason given")


def _split(path: Path, value: str) -> list[str]:
    try:
        return shlex.split(value)
    except ValueError as problem:
        raise UsageError(f"{path}: {problem} in: {value}", hint="close the quotation") from problem


def _absolute(words: list[str], folder: Path) -> list[str]:
    """-I of a relative folder means one beside the file, also where gcc works elsewhere."""
    return [re.sub(r"^-I(?=[^/])", f"-I{folder}/", word) for word in words]


def _objects(path: Path, values: Mapping[str, list[str]], wanted: str) -> tuple[str, list[str]]:
    """The module's name and the objects that it is made of."""
    listed = list(dict.fromkeys(values.get("obj", [])))
    folders = [name for name in listed if name.endswith("/")]
    modules = {name.removesuffix(".o"): name for name in listed if name.endswith(".o")}
    if wanted and wanted not in modules:
        known = ", ".join(modules) or "none"
        raise UsageError(f"{path}: lists no module {wanted}", hint=f"listed there: {known}")
    if not modules:
        if folders:
            raise UsageError(
                f"{path}: lists folders only ({' '.join(folders)})",
                hint="name the Kbuild file of one of them",
            )
        return "", []
    if len(modules) > 1 and not wanted:
        raise UsageError(
            f"{path}: lists several modules: {', '.join(modules)}",
            hint=f"say which one: {path}:{next(iter(modules))}",
        )
    module = wanted or next(iter(modules))
    parts = values.get(f"parts:{modules[module]}", [])
    return module, list(dict.fromkeys(parts)) or [modules[module]]


def _source(path: Path, name: str) -> Path:
    base = path.parent / name.removesuffix(".o")
    for suffix in KMOD_SUFFIXES:
        source = base.with_name(base.name + suffix)
        if source.is_file():
            return source
    raise UsageError(
        f"{path}: lists {name}, and there is neither {base}.c nor {base}.S",
        hint="a source that make would generate has to be made first",
    )
