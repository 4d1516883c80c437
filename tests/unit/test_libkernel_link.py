# SPDX-License-Identifier: GPL-2.0-only
"""Programs linked by ld against the stub get the kernel's addresses from ld.so at run time."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from kbridge import libkernel, proc
from kbridge.symbols.table import Symbol, SymbolTable

TEXT = 0xFFFFFFFF81000000
SYMBOLS = {
    "memcpy": (TEXT + 0x300, "T"),
    "init_task": (TEXT + 0x500, "D"),
    "pcpu_hot": (0x1FB80, "A"),
}

WORDS = r"""
__asm__(
    ".symver kernel_memcpy, memcpy@LINUX_KERNEL\n"
    ".symver kernel_init_task, init_task@LINUX_KERNEL\n"
    ".symver kernel_pcpu_hot, pcpu_hot@LINUX_KERNEL\n"
    ".pushsection .data\n"
    ".balign 8\n"
    ".globl words\n"
    ".type words, @object\n"
    ".size words, 24\n"
    "words: .quad kernel_memcpy, kernel_init_task, kernel_pcpu_hot\n"
    ".popsection\n");
"""

MAIN = r"""
#include <stdio.h>
#include <string.h>
extern unsigned long words[3];
int main(int argc, char **argv)
{
    void *(*volatile own)(void *, const void *, size_t) = memcpy;
    char text[8];
    own(text, "libc's", 7);
    printf("%lx %lx %lx %s\n", words[0], words[1], words[2], text);
    return (unsigned long)own == words[0];
}
"""

FORMS = {
    "pie": ["-fPIE", "-pie"],
    "no-pie": ["-fno-pie", "-no-pie"],
    "shared": ["-fPIC", "-shared"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the stub, a folder `run` with the run-time file, and the two sources."""
    made = tmp_path_factory.mktemp("link")
    kernel = SymbolTable([Symbol(*where, name) for name, where in SYMBOLS.items()], "6", "", "")
    (made / "run").mkdir()
    libkernel.write_runtime(kernel, made / "run/libkernel.so")
    functions = {name: kernel.resolve(name).is_function for name in SYMBOLS}
    libkernel.write_stub(functions, made / "libkernel.so", release="6", build_id="")
    (made / "words.c").write_text(WORDS)
    (made / "main.c").write_text(MAIN)
    return made


def compiled(folder: Path, *arguments: str) -> None:
    proc.run(["gcc", "-O2", *arguments], cwd=folder)


def run(folder: Path, program: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "LD_LIBRARY_PATH": f"{folder}/run"}
    command = [folder / program]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def build(folder: Path, form: str) -> str:
    """The program, or (shared) the library with the words and a program that uses it."""
    if form == "shared":
        library = ["-Wl,-soname,libwords.so", "-o", "run/libwords.so"]
        compiled(folder, *FORMS[form], "words.c", "libkernel.so", *library)
        compiled(folder, "main.c", "run/libwords.so", "libkernel.so", "-o", form)
    else:
        compiled(folder, *FORMS[form], "main.c", "words.c", "libkernel.so", "-o", form)
    return form


@pytest.mark.parametrize("form", FORMS)
def test_addresses_are_the_kernels_and_memcpy_is_libcs(folder: Path, form: str) -> None:
    done = run(folder, build(folder, form))
    values = [f"{address:x}" for address, _ in SYMBOLS.values()]
    assert (done.stdout.split(), done.stderr) == ([*values, "libc's"], "")
    assert done.returncode == 0


@pytest.mark.parametrize("form", ["pie", "no-pie"])
def test_no_kernel_symbol_is_copied_into_the_program(folder: Path, form: str) -> None:
    listing = proc.run(["readelf", "-W", "--dyn-syms", folder / build(folder, form)]).stdout
    lines = [line.split() for line in listing.splitlines() if "@LINUX_KERNEL" in line]
    assert len(lines) == len(SYMBOLS)
    assert all(line[6] == "UND" for line in lines)


def test_non_pic_use_of_data_fails_at_link_time(folder: Path) -> None:
    source = 'extern int t;\n__asm__(".symver t, init_task@LINUX_KERNEL");\nint main(void)'
    (folder / "copy.c").write_text(source + "{ return t; }\n")
    command = ["gcc", "-fno-pie", "-no-pie", "copy.c", "libkernel.so", "-o", "copy"]
    done = proc.run(command, cwd=folder, check=False)
    assert done.returncode != 0
    assert "protected" in done.stderr or "copy reloc" in done.stderr


def test_a_symbol_that_this_kernel_lacks_is_named(folder: Path, tmp_path: Path) -> None:
    program = build(folder, "pie")
    other = SymbolTable([Symbol(TEXT, "T", "memcpy")], "5", "", "")
    libkernel.write_runtime(other, tmp_path / "libkernel.so")
    env = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    command = [folder / program]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 127
    assert "init_task" in done.stderr
