# SPDX-License-Identifier: GPL-2.0-only
"""The commands that turn kmod sources into one relocatable object.

Two code models.  `pic` (the PIC pass): the kernel's own flags, macros and headers, but -fPIC.
`kernel`: the very command Kbuild would use.  In both, the kernel's own objtool then does what it
does for a module (static branches, static calls, return sites, unwind tables), at the stage where
Kbuild runs it, and ld -r joins the objects.

This module only composes commands; build.py and the SCons tool run them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kbridge import paths
from kbridge.errors import CommandError
from kbridge.kernels import compiler
from kbridge.kernels.kbuild import KbuildFlags

# of the commands.  SRCARCH: objtool's builtin-check.c asks for it, as Kbuild exports it to every
# command.  CCACHE_NOHARDLINK: objtool writes into the object, which may be no link to ccache's own.
ENVIRONMENT = {"SRCARCH": "x86", "CCACHE_NOHARDLINK": "1"}

# gates need the functions' prototypes, in the object itself
_DEBUG = ("-g", "-gno-split-dwarf")
# what only a debugger asks for: where each variable is at each instruction (5 to 25 % of
# gcc's time)
_NO_LOCATIONS = (
    "-fno-var-tracking",
    "-fno-var-tracking-assignments",
    "-gno-variable-location-views",
)
# what cannot be together with -fPIC, and the function tracer's hooks, which need a record of
# call sites that only a real module brings (headers still want CC_USING_FENTRY defined)
_NOT_PIC = ("-mcmodel=kernel", "-fno-PIE", "-fno-pie", "-fno-pic", "-fno-PIC")
_TRACER = ("-pg", "-mfentry", "-mrecord-mcount", "-mnop-mcount")
# the kernel's sources know no __PIC__: what they see is what Kbuild would show them
_PIC = ("-fPIC", "-U__PIC__", "-U__pic__")

# Kbuild's switches of the mitigations that `mitigations=drop` leaves out, of gcc and clang, and
# objtool's checks of them.  Not among them: -fcf-protection=branch.  Without ENDBR a function that
# the kernel calls through a pointer would fault on a kernel with IBT.
_MITIGATIONS = ("-mindirect-branch", "-mfunction-return", "-mharden-sls", "-mretpoline")
_CHECKS = ("--retpoline", "--rethunk", "--sls", "--hacks=skylake")

KMOD_SUFFIXES = (".c", ".S")

_PRINTK = "kernel code has printk() and pr_info() (linux/printk.h), not printf()"


@dataclass(frozen=True)
class Source:
    """A kmod source: flags that its compilation has beside Kbuild's, and some that it has not."""

    path: Path
    extra: Sequence[str] = ()
    removed: Sequence[str] = ()


@dataclass(frozen=True)
class Steps:
    """The commands for one source, in order, and the files that they leave."""

    commands: list[list[str]]
    object: Path
    dependencies: Path


def as_operand(path: Path) -> str:
    """A path as no command takes it for an option, or for a file of options (@FILE)."""
    return f"./{path}" if str(path).startswith(("-", "@")) else str(path)


def module_name(name: str) -> str:
    """A name as KBUILD_MODNAME and C identifiers can have it."""
    return re.sub(r"\W", "_", name) or "kmod"


def names(source: Path, module: str) -> list[str]:
    """What Kbuild calls a source and its module, as macros."""
    names = [f'-DKBUILD_MODNAME="{module}"', f"-D__KBUILD_MODNAME=kmod_{module}"]
    if source.suffix == ".S":
        return names
    return [f'-DKBUILD_BASENAME="{module_name(source.stem)}"', *names]


def _without(words: Sequence[str], unwanted: Sequence[str]) -> list[str]:
    return [word for word in words if word not in unwanted]


def _protector(words: Sequence[str]) -> list[str]:
    """-mcmodel=kernel implies the canary at %gs:40 (struct fixed_percpu_data); -fPIC does not."""
    if any(word.startswith("-mstack-protector-guard") for word in words):
        return []
    return ["-mstack-protector-guard-reg=gs", "-mstack-protector-guard-offset=40"]


def without_mitigations(flags: KbuildFlags) -> KbuildFlags:
    """The flags without retpolines, return thunks and straight-line speculation barriers."""
    compile_ = [word for word in flags.compile if not word.startswith(_MITIGATIONS)]
    objtool = _without(flags.objtool, _CHECKS)
    return replace(flags, compile=compile_, objtool=objtool)


def without_locations(flags: KbuildFlags) -> KbuildFlags:
    """The flags without what only a debugger asks for; code, lines and types are the same."""
    if "clang" in flags.version:
        return flags  # clang has no such switch
    return replace(flags, compile=[*flags.compile, *_NO_LOCATIONS])


def compiler_words(flags: KbuildFlags, source: Source, code: str) -> list[str]:
    """The compiler and its flags, without the names of files and module."""
    if source.path.suffix == ".S":
        return _without(flags.assemble, source.removed)
    words = _without(flags.compile, source.removed)
    if code == "kernel":
        return [*words, *_DEBUG]
    prelude = ["-include", str(paths.source("kernel", "pic.h"))]
    words = _without(words, (*_NOT_PIC, *_TRACER))
    return [words[0], *prelude, *words[1:], *_protector(words), *_PIC, *_DEBUG]


def source_steps(
    flags: KbuildFlags,
    source: Source,
    folder: Path,
    *,
    module: str,
    code: str = "pic",
    include: Sequence[Path] = (),
    stem: str | None = None,
    made_as: Path | None = None,
) -> Steps:
    """The commands that make `folder`/STEM.o of one kmod source.

    `made_as`: what the dependency file calls the object, if not by its own path.
    """
    stem = stem or source.path.stem
    object_, dependencies = folder / f"{stem}.o", folder / f"{stem}.d"
    # the source's own folder too: headers that include each other by <name> (trace events) need it
    folders = [f"-I{path}" for path in (*include, source.path.parent)]
    # -pipe to the assembler: an interrupted compiler leaves no temporary file
    made = ["-pipe", "-MMD", "-MF", str(dependencies), "-MQ", str(made_as or object_)]
    command = [
        *compiler.launcher(),
        *compiler_words(flags, source, code),
        *names(source.path, module),
        *folders,
        *source.extra,
        *made,
        "-c",
        "-o",
        str(object_),
        as_operand(source.path),
    ]
    commands = [command]
    if flags.objtool and not flags.objtool_on_link:
        commands.append([*flags.objtool, str(object_)])
    return Steps(commands, object_, dependencies)


def join_steps(
    flags: KbuildFlags, objects: Sequence[Path], output: Path, ldflags: Sequence[str] = ()
) -> list[list[str]]:
    """The commands that make one relocatable object of several, as Kbuild joins a module's."""
    commands = [[*flags.link, *ldflags, "-o", str(output), *map(as_operand, objects)]]
    if flags.objtool and flags.objtool_on_link:
        commands.append([*flags.objtool, str(output)])
    return commands


def explain(problem: CommandError, source: Path) -> CommandError:
    """Turn a failed compiler run into an error about the source, with a hint."""
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
        if missing[1] == "stdio.h":
            problem.hint = f"{_PRINTK}; {problem.hint}"
    elif re.search(r"(?:declaration of|undeclared).* function \W?printf\b", problem.stderr):
        problem.hint = _PRINTK
    elif "impossible constraint in" in problem.stderr:
        problem.hint = "this inline assembly cannot be compiled with -fPIC: try code=kernel"
    return problem


def explain_join(problem: CommandError) -> CommandError:
    """Turn a failed ld -r into an error about what the sources define."""
    twice = re.search(r"multiple definition of [`'\"]([^'\"]+)['\"]", problem.stderr) or re.search(
        r"duplicate symbol: (\S+)", problem.stderr
    )
    if twice:
        name = {"init_module": "module_init()", "cleanup_module": "module_exit()"}.get(twice[1])
        problem.message = f"several kmod sources define {name or twice[1]}"
        problem.hint = (
            "the kmod sources of a program are one module: leave it in one of them, or make a "
            "library (--shared) of each"
            if name
            else "make it static in all but one"
        )
    return problem
