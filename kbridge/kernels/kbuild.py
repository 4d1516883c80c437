# SPDX-License-Identifier: GPL-2.0-only
"""Learns from Kbuild itself how it compiles a module for a kernel, and keeps the answer.

A probe module is built the ordinary way (make -C KDIR M=... modules); the commands that
Kbuild saves beside its objects (scripts/Kbuild.include: cmd_TARGET or, later, savedcmd_TARGET)
hold every flag.
Not for compiling anything: kcompile.py does.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from kbridge import log, paths, proc, progress
from kbridge.errors import CommandError, KbridgeError
from kbridge.kernels import compiler
from kbridge.kernels.target import KernelTarget

_FORMAT = 7  # of the cache entries
# MAKEFLAGS of a make that runs us would reach into ours
MAKE_ENVIRONMENT = {"MAKEFLAGS": "", "MAKELEVEL": "", "MFLAGS": ""}
_MAKE_VARIABLES = ("ARCH", "CROSS_COMPILE", "LLVM")
_PROBE = {
    "Makefile": "obj-m := kbridge_probe.o\nkbridge_probe-y := one.o two.o three.o\n",
    "one.c": '#include <linux/module.h>\nMODULE_LICENSE("GPL");\n',
    "two.c": "#include <linux/kernel.h>\nint two(void);\nint two(void)\n{\n\treturn 2;\n}\n",
    "three.S": (
        "#include <linux/linkage.h>\n#include <asm/nospec-branch.h>\n"
        "SYM_FUNC_START(three)\n\tANNOTATE_NOENDBR\n\tRET\nSYM_FUNC_END(three)\n"
    ),
}


@dataclass(frozen=True)
class KbuildFlags:
    """How Kbuild compiles a module's source and joins its objects, as argument lists.

    `compile` (C) and `assemble` (.S) start with the compiler and have neither source, output,
    dependency file nor the module's name in them; folders are absolute, so they work from any
    working folder.
    `link` joins objects (ld -r).  `objtool` is empty where the kernel does not use it;
    `objtool_on_link` tells whether it works on the joined object or on each one.
    """

    release: str
    kdir: str
    compiler: str  # which one it was: path, size, time of change
    compile: list[str]
    assemble: list[str]
    link: list[str]
    objtool: list[str]
    objtool_on_link: bool
    version: str = ""  # the first line of what the compiler says to --version

    @property
    def fingerprint(self) -> str:
        """Changes whenever an object would have to be made again."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def make_variables(target: KernelTarget, header: Path | None = None) -> list[str]:
    """The caller's ARCH, CROSS_COMPILE and LLVM as make arguments, and what clang needs."""
    given = [f"{name}={os.environ[name]}" for name in _MAKE_VARIABLES if os.environ.get(name)]
    return [*given, *compiler.make_variables(target, header)]


def dependencies(target: KernelTarget) -> list[Path]:
    """Files of the header folder that say that the kernel's configuration changed."""
    names = ("include/generated/autoconf.h", "Module.symvers", "Makefile")
    return [target.kdir / name for name in names if (target.kdir / name).is_file()]


def _cache_file(target: KernelTarget) -> Path:
    key = hashlib.sha256(repr((_FORMAT, target.release, str(target.kdir.resolve()))).encode())
    for file in dependencies(target):
        status = file.stat()
        key.update(f"{file} {status.st_size} {status.st_mtime_ns}\n".encode())
    key.update("\n".join(make_variables(target)).encode())
    return paths.cache("flags") / f"{target.release}-{key.hexdigest()[:16]}.json"


def _identity(program: str) -> str:
    """Changes when another compiler of that name is installed."""
    found = shutil.which(program)
    if not found:
        return "missing"
    status = os.stat(found)
    return f"{os.path.realpath(found)} {status.st_size} {status.st_mtime_ns}"


def flags(target: KernelTarget) -> KbuildFlags:
    """Kbuild's flags for the kernel: from the cache, else (1 to 3 s) by building the probe."""
    entry = _cache_file(target)
    known = _kept(entry)
    if known:
        return known
    what = f"asking Kbuild for the flags of kernel {target.release}"
    with progress.doing(what), paths.alone(entry.parent):
        known = _kept(entry)  # by another kbridge, meanwhile
        if known:
            return known
        log.info(what)
        captured = _capture(target)
        paths.write_atomically(entry, json.dumps(asdict(captured), indent=1))
    return captured


def _kept(entry: Path) -> KbuildFlags | None:
    """The cache's entry; None where it is not there yet, damaged, or of another compiler."""
    try:
        known = KbuildFlags(**json.loads(entry.read_text()))
        return known if known.compiler == _identity(known.compile[0]) else None
    except (OSError, ValueError, TypeError, IndexError):
        return None


def build_module(target: KernelTarget, folder: Path, what: str) -> None:
    """Run the ordinary external-module build in `folder`, whose path Kbuild must accept."""
    header = compiler.header(target)
    if header:  # beside the sources, since our own folder may have a space in its path
        header = Path(shutil.copy(header, folder))
    variables = make_variables(target, header)
    argv = ["make", "-C", str(target.kdir), f"M={folder}", *variables, "modules"]
    try:
        proc.run(argv, env=MAKE_ENVIRONMENT, what=what)
    except CommandError as problem:
        raise _explain(problem, target) from problem


def _explain(problem: CommandError, target: KernelTarget) -> CommandError:
    text = problem.stderr
    clang = compiler.asked_for()
    unknown = re.search(r"clang.*: error: (unknown|unsupported) .*'(-[^']+)'", text)
    if clang and re.search(r"not found|llvm-\S+ failed", text):
        suffix = clang.rpartition("clang")[2]
        packages = f"clang{suffix} lld{suffix} llvm{suffix}"
        problem.hint = f"LLVM={os.environ['LLVM']} asks for {clang}: apt-get install {packages}"
    elif clang and unknown:
        problem.hint = (
            f"the kernel's configuration asks for {unknown[2]}, which {clang} does not know: "
            "a newer clang may, else use the kernel's own compiler: leave LLVM unset"
        )
    elif "not found" in text and "gcc" in text:
        words = [
            word
            for word in text.replace(":", " ").split()
            if "gcc-" in word or word.endswith("gcc")
        ]
        program = words[0].rsplit("/", 1)[-1] if words else "gcc"
        program = program.removeprefix("x86_64-linux-gnu-")
        prefix, _, native = program.rpartition("-gcc")
        # as Debian names cross compilers
        package = f"gcc{native}-{prefix}" if prefix else program
        problem.hint = f"kernel {target.release} is built with {program}: apt-get install {package}"
    return problem


def _capture(target: KernelTarget) -> KbuildFlags:
    with paths.scratch("kbridge-probe-") as folder:
        for name, text in _PROBE.items():
            (folder / name).write_text(text)
        build_module(target, folder, f"the flags probe for kernel {target.release}")
        compile_, per_object = _saved_command(folder, "one.o")
        assemble, _ = _saved_command(folder, "three.o")
        link, on_link = _saved_command(folder, "kbridge_probe.o")
    kdir = target.kdir.resolve()
    objtool = per_object or on_link
    header = compiler.header(target)
    if header:  # the build included a copy
        copied = str(folder / header.name)
        compile_ = [str(header) if word == copied else word for word in compile_]
    return KbuildFlags(
        release=target.release,
        kdir=str(kdir),
        compiler=_identity(compile_[0]),
        compile=_absolute(_strip_compile(compile_, folder), kdir),
        assemble=_absolute(_strip_compile(assemble, folder), kdir),
        link=_strip_link(link, folder),
        objtool=_absolute([word for word in objtool if not word.startswith(str(folder))], kdir),
        objtool_on_link=not per_object and bool(on_link),
        version=proc.run([compile_[0], "--version"]).stdout.partition("\n")[0],
    )


def _saved_command(folder: Path, name: str) -> tuple[list[str], list[str]]:
    """The compiler (or linker) command that made an object, and the objtool command after it."""
    file = folder / f".{name}.cmd"
    try:
        first = file.read_text().splitlines()[0]
    except (OSError, IndexError) as problem:
        raise KbridgeError(f"Kbuild left no {file.name} for {name}") from problem
    _, _, command = first.partition(":=")
    steps = [shlex.split(step) for step in command.split(";") if step.strip()]
    objtool = [step for step in steps[1:] if step and step[0].endswith("objtool")]
    if not steps:
        raise KbridgeError(f"{file.name} of the flags probe has no command in it")
    return steps[0], objtool[0] if objtool else []


def _strip_compile(words: list[str], folder: Path) -> list[str]:
    """Take out what belongs to the probe: names, source, output, dependency file."""
    mine = ("-Wp,-MMD", "-Wp,-MD", "-DKBUILD_BASENAME", "-DKBUILD_MODNAME", "-D__KBUILD_MODNAME")
    kept: list[str] = []
    skip = False
    for word in words:
        if skip or word == "-c" or word.startswith(mine) or str(folder) in word:
            skip = False
        elif word == "-o":
            skip = True
        else:
            kept.append(word)
    return kept


def _strip_link(words: list[str], folder: Path) -> list[str]:
    kept = [word for word in words if str(folder) not in word]
    while "-o" in kept:
        kept.remove("-o")
    return kept


def _absolute(words: list[str], kdir: Path) -> list[str]:
    """Kbuild works in the header folder; make its relative folders absolute."""
    return [re.sub(r"^(-I)?\./", rf"\g<1>{kdir}/", word) for word in words]
