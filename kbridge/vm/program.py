# SPDX-License-Identifier: GPL-2.0-only
"""Finds out about PROG: where it is, whether it can run, which libraries and kernel it needs.

Reads ELF files and asks the program's own dynamic loader; starts nothing of PROG.
"""

from __future__ import annotations

import errno
import io
import os
import re
import shlex
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kbridge import elf as reader
from kbridge import libkernel, paths, proc
from kbridge.errors import KbridgeError

NOT_EXECUTABLE = 126
NOT_FOUND = 127

OURS = frozenset({"libkbridge.so", "libkernel.so"})  # made for each boot, in a folder of their own

# "	libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f...)", glibc's and musl's alike
_LISTED = re.compile(r"^\s*(\S+)(?: => (.+?))?(?: \(0x[0-9a-f]+\))?$", re.MULTILINE)
_NOT_FOUND = re.compile(
    r"^\s*(\S+) => not found"
    r"|error while loading shared libraries: ([^:\n]+): cannot open shared object file"  # glibc
    r"|Error loading shared library ([^:\n]+):",  # musl
    re.MULTILINE,
)


@dataclass(frozen=True)
class KernelNote:
    """What .note.kbridge says: the kernel that `file` was built for, and (for abi.decode()) what
    it uses of that kernel's interface."""

    release: str
    build_id: str
    file: Path
    interface: bytes = b""


@dataclass(frozen=True)
class Program:
    """`path` is absolute, its symlinks kept.  `files`: what its loader maps, itself included.

    `notes`: of all files that have one; `note` is the first.  `modules`: kernel modules whose
    symbols it uses.
    """

    path: Path
    files: tuple[Path, ...]
    note: KernelNote | None
    modules: tuple[str, ...] = ()
    notes: tuple[KernelNote, ...] = ()


def _unusable(message: str, hint: str) -> KbridgeError:
    return KbridgeError(message, hint=hint, status=NOT_EXECUTABLE)


def locate(name: str) -> Path:
    """PROG as a shell finds it: a path, or without a slash a name in PATH."""
    if not name:
        raise KbridgeError("PROG is empty", hint="name a program", status=NOT_FOUND)
    if "/" not in name:
        found = shutil.which(name)
        if found:
            return Path(found).absolute()
        if name in (".", ".."):
            raise _unusable(f"{name}: is a folder", "name a program")
        here = Path(name).exists()
        raise KbridgeError(
            f"{name}: not found in PATH",
            hint=f"did you mean ./{name}?" if here else "give the path of a program",
            status=NOT_FOUND,
        )
    path = Path(name)
    # '..' behind a symlink is not what its text says, and the guest has only what is named
    return path.parent.resolve() / path.name if ".." in path.parts else path.absolute()


def _content(path: Path) -> bytes:
    """The program's bytes.  Raises KbridgeError (126, 127) where a shell would."""
    try:
        if path.is_dir():
            raise _unusable(f"{path}: is a folder", "name a program")
        if path.exists() and not path.is_file():  # it might have no end
            raise _unusable(f"{path}: a device, pipe or socket", "name a program")
        content = path.read_bytes()
    except OSError as problem:
        if problem.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise KbridgeError(
                f"{path}: {problem.strerror}", hint="check the path", status=NOT_FOUND
            ) from problem
        raise _unusable(f"{path}: {problem.strerror}", "it must be readable") from problem
    return content


def _check_elf(path: Path, content: bytes) -> None:
    if content.startswith(b"#!"):
        line = content[2:].split(b"\n")[0].decode("utf-8", "replace").strip()
        words = shlex.join(["--file", f"{path}:{path}", *line.split(), str(path)])
        hint = f"name the interpreter as PROG: kbridge run {words}"
        raise _unusable(f"{path}: a script, not an ELF program", hint)
    if not content.startswith(b"\x7fELF"):
        raise _unusable(f"{path}: not an ELF program", "PROG is a compiled program")


def parsed(path: Path) -> Any:
    """An ELF file for this kind of machine.  Raises OSError, KbridgeError."""
    return _elf(path.read_bytes(), path)


def _elf(content: bytes, path: Path) -> Any:
    from elftools.elf.elffile import ELFFile

    try:
        elf = ELFFile(io.BytesIO(content))
        machine, kind = elf["e_machine"], elf["e_type"]
    except Exception as problem:  # pyelftools raises whatever a damaged header leads it to
        raise _unusable(f"{path}: a damaged ELF file ({problem})", "build it again") from problem
    if machine != "EM_X86_64" or elf.elfclass != 64:
        raise _unusable(
            f"{path}: an ELF file for {machine}, {elf.elfclass} bit",
            "the guest runs x86-64 programs",
        )
    if kind not in ("ET_EXEC", "ET_DYN"):
        raise _unusable(f"{path}: an ELF file, but no program ({kind})", "link it")
    return elf


def segments(elf: Any, kind: str) -> Iterator[Any]:
    return (segment for segment in elf.iter_segments() if segment["p_type"] == kind)


def interpreters(elf: Any, path: Path) -> list[str]:
    """The program's loader; none of a static one."""
    try:
        return [str(one.get_interp_name()) for one in segments(elf, "PT_INTERP")]
    except Exception as problem:  # as in _elf
        raise _unusable(f"{path}: a damaged ELF file ({problem})", "build it again") from problem


@dataclass(frozen=True)
class _Notes:
    """Our notes in `file`: their numbers and bytes."""

    file: Path
    found: tuple[tuple[int, bytes], ...]

    @classmethod
    def of(cls, elf: Any, path: Path) -> _Notes:
        try:
            return cls(path, tuple(reader.own_notes(segments(elf, "PT_NOTE"))))
        except Exception as problem:  # as in _elf
            raise _unusable(f"{path}: damaged ELF notes ({problem})", "build it again") from problem

    @classmethod
    def read(cls, path: Path) -> _Notes:
        """None of a file that is no ELF file for this kind of machine."""
        try:
            return cls.of(parsed(path), path)
        except (OSError, KbridgeError):
            return cls(path, ())

    def _contents(self, kind: int) -> list[bytes]:
        return [content for number, content in self.found if number == kind]

    def _strings(self, kind: int) -> list[list[str]]:
        return [
            [word.decode("ascii", "replace") for word in content.split(b"\0")[:-1]]
            for content in self._contents(kind)
        ]

    def kernel(self) -> KernelNote | None:
        for words in self._strings(reader.NOTE_KERNEL):
            if len(words) == 2:
                recorded = self._contents(reader.NOTE_INTERFACE)
                return KernelNote(words[0], words[1], self.file, recorded[0] if recorded else b"")
        return None

    def modules(self) -> list[str]:
        """The kernel modules whose symbols the file uses."""
        return [name for words in self._strings(reader.NOTE_MODULES) for name in words]


def note_of(path: Path) -> KernelNote | None:
    """The kernel note of a program or library that was built with a kmod."""
    return _Notes.read(path).kernel()


def listed(output: str) -> list[Path]:
    """The files in what `ld.so --list` printed here, absolute.  The vDSO is none.

    Folders in LD_LIBRARY_PATH may be relative, or empty for the working folder, of which then the
    library's name alone is said.  The guest's working folder has the same path.
    """
    said = (target or name for name, target in _LISTED.findall(output))
    return [Path(path).absolute() for path in said if "/" in path or Path(path).is_file()]


def missing(output: str) -> list[str]:
    """The libraries that the loader did not find, ours left out."""
    found = ["".join(groups) for groups in _NOT_FOUND.findall(output)]
    return [name for name in found if name not in OURS]


def _ask(interpreter: Path, path: Path) -> proc.Result:
    """What the loader lists; ours are not on this machine, so it is shown stand-ins for them."""
    argv = [str(interpreter), "--list", str(path)]
    shown = proc.run(argv, check=False)
    if not any(name in shown.stderr for name in OURS):
        return shown
    with paths.scratch() as folder:
        for name in OURS:
            # both carry the version, so that the loader has nothing to say about it
            libkernel.write_stub({}, folder / name, release="", build_id="")
        places = [str(folder), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
        return proc.run(argv, env={"LD_LIBRARY_PATH": ":".join(places)}, check=False)


def _libraries(path: Path, interpreter: Path) -> list[Path]:
    """Every file that the program's own loader would map for it."""
    if not interpreter.exists():
        raise KbridgeError(
            f"{path}: its interpreter {interpreter} is not there",
            hint="install the C library that the program was built for",
            status=NOT_FOUND,
        )
    shown = _ask(interpreter, path)
    said = shown.stdout + shown.stderr
    absent = missing(said)
    if absent:
        raise KbridgeError(
            f"{path}: the library {absent[0]} is not found",
            hint="install it, or name its folder in LD_LIBRARY_PATH",
            status=NOT_FOUND,
        )
    found = listed(shown.stdout)
    if shown.returncode and not found and "statically linked" not in said:
        raise _unusable(
            f"{path}: its loader {interpreter} refuses it: {shown.stderr.strip()[:200]}",
            "build it again",
        )
    return [file for file in found if file.name not in OURS]


def checked(path: Path, *, scripts: bool = False) -> Any:
    """The ELF file of a program, None of a script (which it may be with `scripts`).

    Raises KbridgeError (126, 127) where a shell would.
    """
    content = _content(path)
    script = scripts and content.startswith(b"#!")
    elf = None
    if not script:
        _check_elf(path, content)
        elf = _elf(content, path)
        _Notes.of(elf, path)  # where it is damaged
    if not os.access(path, os.X_OK):  # last: chmod makes no program of a source
        raise _unusable(f"{path}: not executable", f"chmod +x {shlex.quote(str(path))}")
    return elf


def of_files(path: Path, files: Sequence[Path]) -> Program:
    """The program `path`; `files`: what its loader maps, itself first."""
    files = list(dict.fromkeys(files))
    read = [_Notes.read(file) for file in files]
    notes = tuple(note for one in read if (note := one.kernel()))
    modules = dict.fromkeys(name for one in read for name in one.modules())
    return Program(path, tuple(files), notes[0] if notes else None, tuple(modules), notes)


def examine(name: str, *, scripts: bool = False) -> Program:
    """All about PROG.  Raises KbridgeError with status 126 (not executable) or 127 (not found).

    `scripts`: PROG may be one, as where its interpreter is at its place.
    """
    path = locate(name)
    elf = checked(path, scripts=scripts)
    if elf is None:
        return Program(path, (path,), None)
    files = [path]
    for interpreter in map(Path, interpreters(elf, path)):
        files += [interpreter, *_libraries(path, interpreter)]
    return of_files(path, files)
