# SPDX-License-Identifier: GPL-2.0-only
"""Kernel-style C as the kernel's own tools judge it: checkpatch, sparse, and Kbuild's warnings.

Formatting, columns and licences are test_linters.py's.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import pytest
from intree import sources

from kbridge.kernels import kbuild, target

ROOT = Path(__file__).resolve().parents[2]
KELEVATE = ROOT / "kernel/kelevate"
KERNELS = [kernel.release for kernel in target.installed()] or ["none installed"]

# What checkpatch judges.  The kmods of tests/ are not here: they do on purpose what it warns of.
STYLED = ("kernel/*", "runtime/*", "samples/*_kmod.[ch]")

# Files and the types of remark that are not for them.
NOT_FOR_US = (
    # where clang-format, which test_linters.py runs, has it otherwise: the empty line of a macro,
    # a pointer in a macro's argument, a string that leaves no room for a call's first argument
    ("*", ("CODE_INDENT", "LEADING_SPACE", "OPEN_ENDED_LINE", "SPACING")),
    # the ELF types of the kernel (Elf_Shdr) and of libc, and C's own _Noreturn
    ("*", ("CAMELCASE",)),
    # a function's name in a string: our functions have plain words for names
    ("*", ("EMBEDDED_FUNCTION_NAME",)),
    # only for a system call that is not there: KELEVATE_AGAIN is none
    ("*", ("ENOSYS",)),
    # programs include it too, and have no BIT()
    ("kernel/kelevate/kelevate.h", ("BIT_MACRO",)),
    # a debugger needs the address; those who may not know any get zero
    ("kernel/kelevate/sysfs.c", ("VSPRINTF_SPECIFIER_PX",)),
    # a thread's words that its signal handlers change
    ("runtime/elevate.c", ("VOLATILE",)),
    # libc has no ARRAY_SIZE
    ("runtime/*", ("ARRAY_SIZE",)),
    ("kernel/selftest/*", ("ARRAY_SIZE",)),
    # as the paper prints it
    ("samples/fd_info/*", ("PREFER_PR_LEVEL",)),
    # labels of an assembly file that nobody else uses
    ("samples/idtool/*", ("AVOID_EXTERNS",)),
    # a table with the names of instructions, file_operations that the program fills in
    ("samples/types_macros/*", ("CONST_STRUCT",)),
)


class Remark(NamedTuple):
    file: str
    type: str
    line: str

    def is_for_us(self) -> bool:
        return not any(
            fnmatch(self.file, files) and self.type in types for files, types in NOT_FOR_US
        )


def checkpatch(script: Path, files: Sequence[str], folder: Path) -> Iterator[Remark]:
    """In a folder of the test's own, as it leaves a file where it runs."""
    how = ["--strict", "--no-tree", "--terse", "--show-types", "--max-line-length=100"]
    (folder / "include").mkdir(exist_ok=True)  # where it looks for names with capitals
    done = subprocess.run(
        ["perl", script, *how, f"--root={folder}", "-f", *files],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr  # 1: it has something to say
    assert not done.stderr
    for line in done.stdout.splitlines():
        found = re.match(r"(.+?):\d+: (?:ERROR|WARNING|CHECK):(\w+): ", line)
        if found:
            yield Remark(found[1], found[2], line)


def styled_files() -> list[str]:
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "*.c", "*.h", "*.S"],
        cwd=ROOT,
        env={key: value for key, value in os.environ.items() if not key.startswith("GIT_")},
        capture_output=True,
        text=True,
        check=True,
    )
    names = [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]
    chosen = [name for name in names if any(fnmatch(name, pattern) for pattern in STYLED)]
    assert "kernel/kelevate/main.c" in chosen
    return chosen


def test_checkpatch_has_nothing_to_say(tmp_path: Path) -> None:
    script, files = sources.checkpatch(KERNELS[-1]), styled_files()
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    remarks = [one.line for one in checkpatch(script, files, tmp_path) if one.is_for_us()]
    assert not remarks, "\n".join(remarks)
    (tmp_path / "bad.c").write_text("// SPDX-License-Identifier: GPL-2.0-only\nchar* x ;\n")
    assert any(one.type == "POINTER_LOCATION" for one in checkpatch(script, ["bad.c"], tmp_path))


# sparse, gcc and objtool


def build_with_checks(release: str, folder: Path, *variables: str) -> str:
    """What the kernel's build says of the module: C=2 runs sparse on every file, W=1 warns more."""
    assert shutil.which("sparse"), "no sparse; make test installs it"
    for file in KELEVATE.iterdir():
        if file.suffix in (".c", ".h", ".S", ""):
            shutil.copy(file, folder)
    wanted = target.find(release)
    words = ["C=2", "W=1", "CF=-D__CHECK_ENDIAN__", *kbuild.make_variables(wanted), *variables]
    done = subprocess.run(
        ["make", "-j2", "-C", wanted.kdir, f"M={folder}", *words, "modules"],
        env={**os.environ, **kbuild.MAKE_ENVIRONMENT},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def complaints(said: str) -> list[str]:
    return [line for line in said.splitlines() if re.search(r"\b(?:warning|error)\b", line)]


def checked(said: str) -> set[str]:
    return {Path(file).name for file in re.findall(r"^  CHECK +(\S+)", said, re.MULTILINE)}


@pytest.mark.parametrize(
    "release", [*(pytest.param(one, marks=pytest.mark.slow) for one in KERNELS[:-1]), KERNELS[-1]]
)
def test_sparse_gcc_and_objtool_have_nothing_to_say(release: str, tmp_path: Path) -> None:
    said = build_with_checks(release, tmp_path)
    ours = {file.name for file in KELEVATE.glob("*.c")} - {"no_elevation.c"}
    assert checked(said) >= ours
    assert not complaints(said), said


@pytest.mark.slow
def test_nor_where_there_are_gates_alone(tmp_path: Path) -> None:
    """As for a kernel without user-return notifiers: its Kbuild does not know the variable."""
    said = build_with_checks(KERNELS[-1], tmp_path, "CONFIG_USER_RETURN_NOTIFIER=")
    assert "no_elevation.c" in checked(said)
    assert "thread.c" not in checked(said)
    assert not complaints(said), said


def test_sparse_knows_user_pointers(tmp_path: Path) -> None:
    """The marks that kelevate's code has (__user, __percpu) are read by it."""
    (tmp_path / "Makefile").write_text("obj-m := bad.o\n")
    (tmp_path / "bad.c").write_text(
        "#include <linux/module.h>\n"
        "int bad(int __user *p);\nint bad(int __user *p)\n{\n\treturn *p;\n}\n"
        'MODULE_LICENSE("GPL");\nMODULE_DESCRIPTION("x");\n'
    )
    kdir = target.find(KERNELS[-1]).kdir
    done = subprocess.run(
        ["make", "-C", kdir, f"M={tmp_path}", "C=2", "bad.o"],
        env={**os.environ, **kbuild.MAKE_ENVIRONMENT},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "dereference of noderef expression" in done.stderr, done.stdout + done.stderr


# What differs between kernels


def test_features_are_probed_and_not_versions() -> None:
    """And each probe of the headers says which commit of the kernel it is for."""
    text = {file: file.read_text() for file in KELEVATE.iterdir() if file.suffix != ".ko"}
    words = re.compile(r"LINUX_VERSION|KERNEL_VERSION|VERSION_CODE|\bPATCHLEVEL\b|\bSUBLEVEL\b")
    assert not [file.name for file, found in text.items() if words.search(found)]
    makefile = text[KELEVATE / "Makefile"]
    condition = r"^ifeq \(\$\((call has,|CONFIG_)[^\n]*\nccflags-y \+= -D(\w+)$"
    how = {name: by for by, name in re.findall(condition, makefile, re.MULTILINE)}
    assert set(how) == set(re.findall(r"-D(\w+)", makefile))
    probed = [name for name, by in how.items() if by != "CONFIG_"]
    for name in probed:
        comment = makefile.partition(f"-D{name}")[0].rpartition("\n\n")[2]
        assert re.search(r"# .*\bLinux commit\s.*\bv\d\.\d+\)", comment, re.DOTALL), name
    code = [found for file, found in text.items() if file.suffix in (".c", ".h", ".S")]
    assert {name for found in code for name in re.findall(r"\bHAVE_\w+", found)} == set(how)
