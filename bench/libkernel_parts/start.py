# SPDX-License-Identifier: GPL-2.0-only
"""What kernel symbols cost a program at its start: the same programs with and without, in turns.

Two pairs.  The plain one is a C program with versioned references, as anyone may link it against
the link stub.  The other is what `kbridge build` makes, with libkbridge.so, which checks kernel
release, build ID and every import word.  They are started on this machine, whose kernel is
another than theirs: so libkbridge is told, as `kbridge run --other-build` tells it, that this
kernel was compared, and their libraries have this kernel's name in their note.  It then does all
that it does at any start; only a gate would fail, and so main() returns before the first one.
"""

from __future__ import annotations

import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from elftools.elf.elffile import ELFFile

from kbridge import abi, libkernel, proc, runtime
from kbridge.errors import KbridgeError
from kbridge.libkernel import Origin
from kbridge.symbols import kallsyms
from kbridge.vm import program
from libkernel_parts.commands import KBRIDGE, Run, Spawner
from libkernel_parts.subjects import Kernel

SYMBOLS = 20

WITHOUT = "without kernel symbols"
FULL = "with, full library"
NEEDED = "with, library of --only-needed"
KB_FULL = "built by kbridge, full library"
KB_NEEDED = "built by kbridge, library of --only-needed"

_APP = "int use(void);\nint main(int argc, char **argv) { (void)argv; return argc > 1 && use(); }\n"
_NOTHING = "int use(void) { return 0; }\n"


def _uses(names: Sequence[str], declaration: str) -> str:
    """C in which use() depends on the address of each."""
    listed = ", ".join(names)
    return (
        "".join(declaration.format(name=name) for name in names)
        + f"static char *volatile used[] = {{ {listed} }};\n"
        + f"int use(void);\nint use(void) {{ return !used[{len(names) - 1}]; }}\n"
    )


@dataclass(frozen=True)
class _Built:
    """The programs, and what comes before each on the command line: the folder of libraries."""

    folder: Path
    libraries: dict[str, Path]
    compared: str

    def command(self, name: str) -> list[str | Path]:
        if name == WITHOUT:
            return [self.folder / "without"]
        places = f"LD_LIBRARY_PATH={self.libraries[name]}"
        if name in (FULL, NEEDED):
            return [places, self.folder / "with"]
        return [places, f"{abi.VARIABLE}={self.compared}", self.folder / "kbridge"]


def _generate(kernel: Kernel, folder: Path, *words: str | Path) -> Path:
    """libkernel.so as the command writes it; the folder of the link stub."""
    folder.mkdir()
    command = [*KBRIDGE, "gen-libkernel", "-q", "--symbols", kernel.vmlinuz]
    proc.run([*command, *words, "-o", folder / libkernel.SONAME])
    return folder / f"{libkernel.SONAME}.link"


def _disguise(kernel: Kernel, made: Path, folder: Path) -> None:
    """The symbols of the library `made`, in one that says it is the running kernel's, and
    libkbridge.so."""
    folder.mkdir()
    with (made / libkernel.SONAME).open("rb") as stream:
        listed = ELFFile(stream).get_section_by_name(".dynsym").iter_symbols()
        wanted = {one.name for one in listed}
    kept = [i for i, name in enumerate(kernel.symbols.names) if name in wanted]
    origin = Origin(platform.release(), kallsyms.running_build_id())
    libkernel.runtime(kernel.symbols.at(kept), origin).write(folder / libkernel.SONAME)
    (folder / "libkbridge.so").write_bytes(runtime.library().read_bytes())


def _compared(file: Path) -> str:
    """What tells libkbridge that the running kernel was compared with the program's."""
    note = program.note_of(file)
    if note is None or not note.interface:
        raise KbridgeError(f"{file.name} does not say what it uses of its kernel")
    digest = abi.digest(note.release, note.build_id, note.interface)
    return f"{platform.release()} {kallsyms.running_build_id()} {digest}"


def _build(kernel: Kernel, folder: Path) -> _Built:
    folder.mkdir(parents=True)
    plain = "extern char {name}[];\n"
    versioned = plain + f'__asm__(".symver {{name}}, {{name}}@{libkernel.VERSION}");\n'
    for name, text in {
        "app": _APP,
        "nothing": _NOTHING,
        "uses": _uses(kernel.names, versioned),
        "kmod": _uses(kernel.names, plain),
    }.items():
        (folder / f"{name}.c").write_text(text)
        if name != "kmod":
            proc.run(["gcc", "-O2", "-fPIC", "-c", f"{name}.c"], cwd=folder)
    stub = _generate(kernel, folder / "full")
    proc.run(["gcc", "app.o", "nothing.o", "-o", "without"], cwd=folder)
    proc.run(["gcc", "app.o", "uses.o", "-L", stub, "-lkernel", "-o", "with"], cwd=folder)
    words = ["--kernel", kernel.release, "--kmod", folder / "kmod.c", folder / "app.c"]
    proc.run([*KBRIDGE, "build", "-q", *words, "-o", folder / "kbridge"])
    for name, file in (("needed", "with"), ("needed-kbridge", "kbridge")):
        _generate(kernel, folder / name, "--only-needed", folder / file)
    libraries = {
        FULL: folder / "full",
        NEEDED: folder / "needed",
        KB_FULL: folder / "full-here",
        KB_NEEDED: folder / "needed-here",
    }
    _disguise(kernel, folder / "full", libraries[KB_FULL])
    _disguise(kernel, folder / "needed-kbridge", libraries[KB_NEEDED])
    return _Built(folder, libraries, _compared(folder / "kbridge"))


def _check(built: _Built, names: Sequence[str]) -> None:
    """Raise KbridgeError unless ld.so finds the libraries that are meant."""
    for name in names:
        *variables, file = map(str, built.command(name))
        env = dict(one.split("=", 1) for one in variables)
        listed = proc.run(["/lib64/ld-linux-x86-64.so.2", "--list", file], env=env).stdout
        if f"{libkernel.SONAME} => {built.libraries[name]}/" not in listed:
            raise KbridgeError(
                f"a program does not find {built.libraries[name]}/{libkernel.SONAME}",
                hint=f"remove {runtime.RUN_FOLDER}; kbridge run makes it again",
            )


@dataclass(frozen=True)
class Start:
    """Runs of the programs from exec to exit, by name; of every round, one each."""

    kernel: Kernel
    runs: dict[str, list[Run]]

    def microseconds(self, name: str) -> float:
        return statistics.median(one.seconds for one in self.runs[name]) * 1e6

    def more(self, name: str) -> float:
        """Microseconds more than WITHOUT: the median of the differences of each round."""
        pairs = zip(self.runs[name], self.runs[WITHOUT], strict=True)
        return statistics.median(ours.seconds - bare.seconds for ours, bare in pairs) * 1e6


def measure(spawner: Spawner, kernel: Kernel, folder: Path, rounds: int) -> Start:
    built = _build(kernel, folder)
    names = (FULL, NEEDED, KB_FULL, KB_NEEDED)
    _check(built, names)
    commands = {name: built.command(name) for name in (WITHOUT, *names)}
    spawner.rounds(list(commands.values()), max(1, rounds // 20))  # warm
    found = spawner.rounds(list(commands.values()), rounds)
    return Start(kernel, dict(zip(commands, found, strict=True)))
