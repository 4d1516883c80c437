# SPDX-License-Identifier: GPL-2.0-only
"""The commands that turn kmod sources into one relocatable object.

Two code models.  `pic` (the PIC pass): preprocess with the kernel's own flags, compile the result
with -fPIC.  `kernel`: the very command Kbuild would use.  In both, the kernel's own objtool then
does what it does for a module (static branches, static calls, return sites, unwind tables), at
the stage where Kbuild runs it, and ld -r joins the objects.

This module only composes commands; build.py and the SCons tool run them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kbridge import paths, proc
from kbridge.errors import CommandError
from kbridge.kernels.kbuild import KbuildFlags

# objtool's builtin-check.c asks for it; Kbuild exports it to every command
OBJTOOL_ENVIRONMENT = {"SRCARCH": "x86"}

# gates need the functions' prototypes, in the object itself
_DEBUG = ("-g", "-gno-split-dwarf")
# what cannot be together with -fPIC, and the function tracer's hooks, which need a record of
# call sites that only a real module brings (headers still want CC_USING_FENTRY defined)
_NOT_PIC = ("-mcmodel=kernel", "-fno-PIE", "-fno-pie", "-fno-pic", "-fno-PIC")
_TRACER = ("-pg", "-mfentry", "-mrecord-mcount", "-mnop-mcount")


@dataclass(frozen=True)
class Steps:
    """The commands for one source, in order, and the files that they leave.

    `diagnose` compiles the source itself, for messages with its own columns and macros: those of
    a preprocessed source lack them.
    """

    commands: list[list[str]]
    object: Path
    dependencies: Path
    diagnose: list[str]


def module_name(name: str) -> str:
    """A name as KBUILD_MODNAME and C identifiers can have it."""
    return re.sub(r"\W", "_", name) or "kmod"


def _names(source: Path, module: str) -> list[str]:
    base = module_name(source.stem)
    return [
        "-DMODULE",
        f'-DKBUILD_BASENAME="{base}"',
        f'-DKBUILD_MODNAME="{module}"',
        f"-D__KBUILD_MODNAME=kmod_{module}",
    ]


def _without(words: Sequence[str], unwanted: Sequence[str]) -> list[str]:
    return [word for word in words if word not in unwanted]


def _protector(words: Sequence[str]) -> list[str]:
    """-mcmodel=kernel implies the canary at %gs:40 (struct fixed_percpu_data); -fPIC does not."""
    if any(word.startswith("-mstack-protector-guard") for word in words):
        return []
    return ["-mstack-protector-guard-reg=gs", "-mstack-protector-guard-offset=40"]


def source_steps(
    flags: KbuildFlags,
    source: Path,
    folder: Path,
    *,
    module: str,
    code: str = "pic",
    include: Sequence[Path] = (),
    extra: Sequence[str] = (),
    stem: str | None = None,
) -> Steps:
    """The commands that make `folder`/STEM.o of one kmod source; `extra` are kcflags."""
    stem = stem or source.stem
    base = folder / stem
    object_, dependencies = base.with_name(f"{stem}.o"), base.with_name(f"{stem}.d")
    words = [word for word in flags.compile[1:] if word != "-DMODULE"]
    # the source's own folder too: headers that include each other by <name> (trace events) need it
    user = [*(f"-I{path}" for path in (*include, source.parent)), *extra]
    made = ["-MMD", "-MF", str(dependencies), "-MT", str(object_)]
    compiler = flags.compile[0]
    if code == "kernel":
        compile_ = [compiler, *words, *_names(source, module), *user, *_DEBUG, *made]
        commands = [[*compile_, "-c", "-o", str(object_), str(source)]]
        diagnose = []
    else:
        preprocessed = base.with_name(f"{stem}.i")
        prelude = str(paths.source("kernel", "pic.h"))
        words = _without(words, _TRACER)
        preprocess = [compiler, "-include", prelude, *words, *_names(source, module), *user, *made]
        pic = [compiler, *_without(words, _NOT_PIC), *_protector(words)]
        pic = [word for word in pic if not word.startswith("-I")]
        pic = [*_without_pairs(pic, "-include"), *extra, *_DEBUG, "-fPIC", "-fpreprocessed"]
        checked = _without(preprocess, (*made, *_NOT_PIC))
        diagnose = [*checked, "-fPIC", "-U__PIC__", "-U__pic__", "-fsyntax-only", str(source)]
        commands = [
            [*preprocess, "-E", "-o", str(preprocessed), str(source)],
            [*pic, "-c", "-o", str(object_), str(preprocessed)],
        ]
    if flags.objtool and not flags.objtool_on_link:
        commands.append([*flags.objtool, str(object_)])
    return Steps(commands, object_, dependencies, diagnose)


def _without_pairs(words: Sequence[str], option: str) -> list[str]:
    kept: list[str] = []
    skip = False
    for word in words:
        if not skip and word != option:
            kept.append(word)
        skip = not skip and word == option
    return kept


def join_steps(flags: KbuildFlags, objects: Sequence[Path], output: Path) -> list[list[str]]:
    """The commands that make one relocatable object of several, as Kbuild joins a module's."""
    commands = [[*flags.link, "-o", str(output), *map(str, objects)]]
    if flags.objtool and flags.objtool_on_link:
        commands.append([*flags.objtool, str(output)])
    return commands


def explain(problem: CommandError, source: Path, steps: Steps) -> CommandError:
    """Turn a failed compiler run into an error about the source, with a hint."""
    if steps.diagnose and f"{steps.object.stem}.i" not in problem.stderr:
        again = proc.run(steps.diagnose, check=False)
        problem.stderr = again.stderr if again.returncode else problem.stderr
    if not problem.stderr.strip():
        return problem
    problem.message = f"{source}: does not compile as kernel code"
    problem.hint = "see the compiler's words above"
    missing = re.search(r"fatal error: (\S+?): No such file", problem.stderr)
    if missing:
        problem.hint = (
            f"a kmod source sees kernel headers only, and {missing[1]} is not one of them: "
            "keep user code in the app, or add a folder: -I DIR (scons: kcflags=-IDIR)"
        )
    elif "impossible constraint in" in problem.stderr:
        problem.hint = "this inline assembly cannot be compiled with -fPIC: try code=kernel"
    return problem
