# SPDX-License-Identifier: GPL-2.0-only
"""kbridge compile-commands: how app and kmod sources are compiled, for editors (clangd).

The commands are those of the build, as clang takes them: clangd reads sources with clang, whatever
compiles them.  Not for compiling; nothing is built, but Kbuild is asked for its flags.
Source of the format: clang's JSON compilation database (JSONCompilationDatabase.html).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kbridge import kcompile, log, paths
from kbridge.errors import UsageError
from kbridge.kernels import compiler, kbuild, target
from kbridge.verbs import build

NAME = "compile_commands.json"

Entry = dict[str, str | list[str]]

# flags that say what a source means, in gcc's words and clang's alike; beside them Kbuild's are
# about code that is generated, which nobody does here, and half of them are gcc's alone
_MEANING = (
    "-D",
    "-I",
    "-O",
    "-U",
    "-W",
    "-fcf-protection",
    "-ffreestanding",
    "-fms-extensions",
    "-fno-builtin",
    "-fno-common",
    "-fno-delete-null-pointer-checks",
    "-fno-strict-aliasing",
    "-fshort-wchar",
    "-fsigned-char",
    "-funsigned-char",
    "-i",
    "-m64",
    "-mno-3dnow",
    "-mno-80387",
    "-mno-avx",
    "-mno-mmx",
    "-mno-red-zone",
    "-mno-sse",
    "-nostdinc",
    "-std=",
)
# among these: words for the tools behind the compiler
_OTHERS = ("-Wa,", "-Wl,", "-Wp,")
_WITH_WORD = ("-D", "-I", "-U", "-idirafter", "-imacros", "-include", "-iquote", "-isystem")
# of the compilation, not of the source: each with the number of words that follow it
_OUTPUT = {"-c": 0, "-o": 1, "-pipe": 0, "-MMD": 0, "-MF": 1, "-MT": 1}
# kernel code takes for granted that gcc does not say these
_QUIET = (
    "-Wno-unknown-warning-option",
    "-Wno-duplicate-decl-specifier",
    "-Wno-gnu-variable-sized-type-not-at-end",
)
_READ_BY_CLANGD = (".c", ".cc", ".cpp", ".cxx", ".C", ".c++")


@dataclass(frozen=True)
class CompileCommandsRequest:
    """As BuildRequest, whose words these are; `database` is the file to write."""

    app: Sequence[Path]
    kmod: Sequence[Path]
    database: Path
    code: str = "pic"
    include: Sequence[Path] = ()
    kcflags: Sequence[str] = ()
    cflags: Sequence[str] = ()
    kbuild: str | None = None
    kernel: str | None = None
    kdir: str | None = None

    def build(self) -> build.BuildRequest:
        """The build that these sources are for."""
        first = self.app[0] if self.app else self.kmod[0] if self.kmod else Path("kmod")
        return build.BuildRequest(
            self.app,
            self.kmod,
            Path(first.stem),
            shared=not self.app,
            code=self.code,
            include=self.include,
            kcflags=self.kcflags,
            cflags=self.cflags,
            kbuild=self.kbuild,
            kernel=self.kernel,
            kdir=self.kdir,
        )


def _without_output(words: Sequence[str]) -> Iterator[str]:
    rest = iter(words)
    for word in rest:
        if word not in _OUTPUT:
            yield word
        for _ in range(_OUTPUT.get(word, 0)):
            next(rest, None)


def for_clang(command: Sequence[str], header: Path | None) -> list[str]:
    """A kmod's compile command with the flags that clang knows; `header` is included, too."""
    program, *words = _without_output(command[:-1])
    if header and str(header) not in words:
        words += ["-include", str(header)]
    found = [program]
    rest = iter(words)
    for word in rest:
        value = [next(rest, "")] if word in _WITH_WORD else []
        if word.startswith(_MEANING) and not word.startswith(_OTHERS):
            found += [word, *value]
    return [*found, *_QUIET, command[-1]]


def _entry(source: Path, command: Sequence[str]) -> Entry:
    return {
        "directory": os.getcwd(),
        "file": str(source.absolute()),
        "arguments": list(command),
    }


def entries(
    request: build.BuildRequest,
    kernel: target.KernelTarget,
    flags: kbuild.KbuildFlags,
    sources: build.KmodSources,
) -> list[Entry]:
    """One for each source that clangd can read: those in assembly it cannot."""
    nowhere = Path("none.o")
    header = compiler.clang_header(kernel)
    before = len(compiler.launcher())  # clangd asks the compiler itself
    found = []
    for source in sources.sources:
        steps = kcompile.source_steps(
            flags,
            source,
            nowhere.parent,
            module=sources.module,
            code=request.code,
            include=request.include,
        )
        if source.path.suffix in _READ_BY_CLANGD:
            found.append(_entry(source.path, for_clang(steps.commands[0][before:], header)))
    for path in request.app:
        if path.suffix in _READ_BY_CLANGD:
            command = build.app_command(
                path,
                nowhere,
                shared=request.shared,
                cflags=request.cflags,
                include=request.include,
            )
            found.append(_entry(path, list(_without_output(command))))
    return found


def _is_entry(one: object) -> bool:
    names = ("directory", "file")
    return isinstance(one, dict) and all(isinstance(one.get(name), str) for name in names)


def _known(database: Path) -> list[Entry]:
    """The entries that are there, of sources that still are."""
    try:
        found = json.loads(database.read_text())
    except FileNotFoundError:
        return []
    except (ValueError, IsADirectoryError):
        found = None
    if not isinstance(found, list) or not all(map(_is_entry, found)):
        raise UsageError(
            f"{database}: is there and no list of compile commands, so it is not replaced",
            hint="remove it first, or name another file with -o",
        )
    return [one for one in found if Path(one["directory"], one["file"]).is_file()]


def merge(database: Path, new: Sequence[Entry]) -> bool:
    """Write `new` in place of the entries of the same files; other files' stay.

    False where the file had them already.
    """
    paths.make_parent(database)
    with paths.alone(database.parent):  # what others add meanwhile would be lost
        known = _known(database)
        files = {one["file"] for one in new}
        kept = [one for one in known if one["file"] not in files]
        merged = sorted([*kept, *new], key=lambda one: str(one["file"]))
        if merged != known:
            paths.write_atomically(database, json.dumps(merged, indent=1) + "\n")
    return merged != known


def write(request: CompileCommandsRequest) -> None:
    """Write the file.  Raises KbridgeError where a source or the kernel's headers are missing."""
    what = request.build()
    build.check(what)
    kernel = target.find(request.kernel, request.kdir)
    flags = build.kernel_flags(what, kernel)
    new = entries(what, kernel, flags, build.kmod_sources(what, kernel, flags))
    changed = merge(request.database, new)
    done = "wrote" if changed else "nothing new in"
    log.info(f"{done} {request.database}: sources {len(new)}, kernel {kernel.release}")
