# SPDX-License-Identifier: GPL-2.0-only
"""musl is refused by name, since its dynamic linker would mix the kernel's names with libc's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Kbridge
from elftools.elf.elffile import ELFFile

from kbridge import libkernel, options
from kbridge.symbols.table import Symbol, SymbolTable

ROOT = Path(__file__).parents[2]
MUSL = {**os.environ, "CC": "musl-gcc"}
CAUSE = "whose dynamic linker ignores symbol versions: the kmod's memcpy would silently become"
KMOD = """\
#include <linux/sched.h>
#include <linux/string.h>
long copied(void);
long copied(void)
{
	char name[TASK_COMM_LEN];

	memcpy(name, current->comm, sizeof(name));
	return strlen(name);
}
"""
APP = "long copied(void);\nint main(void) { return copied() == 0; }\n"
WORDS = r"""
#include <stdio.h>
#include <string.h>
__asm__(".weak kernel_memcpy, kernel_schedule\n"
	".symver kernel_memcpy, memcpy@LINUX_KERNEL\n"
	".symver kernel_schedule, schedule@LINUX_KERNEL\n"
	".pushsection .data\n"
	".balign 8\n"
	".globl words\n"
	"words: .quad kernel_memcpy, kernel_schedule\n"
	".popsection\n");
extern unsigned long words[2];
int main(void)
{
	void *(*volatile own)(void *, const void *, size_t) = memcpy;

	printf("%d %lx\n", words[0] == (unsigned long)own, words[1]);
	return 0;
}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "kmod.c").write_text(KMOD)
    (folder / "app.c").write_text(APP)
    (folder / "library.c").write_text(
        "long copied(void);\nlong twice(void) { return 2 * copied(); }\n"
    )
    return folder


@pytest.mark.parametrize("link", options.LINK_MODES)
@pytest.mark.parametrize("form", [["app.c"], ["library.c", "--shared"], ["--shared"]])
def test_build_refuses_it(kbridge: Kbridge, project: Path, form: list[str], link: str) -> None:
    before = {path: path.read_bytes() for path in project.iterdir()}
    words = ["build", *form, "--kmod", "kmod.c", "--link", link, "-o", "out/it"]
    done = kbridge(*words, cwd=project, env=MUSL)
    cause, hint = done.stderr.splitlines()
    assert done.returncode == 1
    assert cause.startswith("kbridge: error: linked with musl (")
    assert CAUSE in cause
    assert hint == "kbridge: hint: build it with gcc and glibc: CC=gcc"
    assert not list((project / "out").iterdir())
    after = {path: path.read_bytes() for path in project.iterdir() if path.is_file()}
    assert after == before


def test_scons_refuses_it(project: Path) -> None:
    """And the same folder serves gcc afterwards."""
    out = project / "build"
    words = [f"app={project / 'app.c'}", f"kmod={project / 'kmod.c'}", f"out={out}"]
    command = [sys.executable, "-m", "SCons", "-Q", "-C", str(ROOT), *words]
    done = subprocess.run(command, env=MUSL, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert CAUSE in done.stderr
    assert [path.name for path in out.iterdir()] == [".kbridge"]
    subprocess.run(command, capture_output=True, check=True)
    with (out / "app").open("rb") as stream:
        loaders = [
            segment.get_interp_name()
            for segment in ELFFile(stream).iter_segments()
            if segment["p_type"] == "PT_INTERP"
        ]
    assert loaders == ["/lib64/ld-linux-x86-64.so.2"]


def test_an_object_of_musls_compiler_is_one_like_any(kbridge: Kbridge, project: Path) -> None:
    """What counts is the dynamic linker of the program: here glibc's binds all names."""
    subprocess.run(["musl-gcc", "-c", "app.c"], cwd=project, check=True)
    done = kbridge("build", "app.o", "--kmod", "kmod.c", "-o", "it", cwd=project)
    assert done.returncode == 0, done.stderr


def test_why(tmp_path: Path) -> None:
    """glibc gives each name its own meaning; musl gives libc's memcpy, and no schedule."""
    text = 0xFFFFFFFF81000000
    names = {"memcpy": text + 0x100, "schedule": text + 0x200}
    table = SymbolTable(
        [Symbol(address, "T", name) for name, address in names.items()], "6", "", ""
    )
    libkernel.write_stub(dict.fromkeys(names, True), tmp_path / "stub.so", release="6", build_id="")
    libkernel.write_runtime(table, tmp_path / "libkernel.so")
    (tmp_path / "words.c").write_text(WORDS)
    said = {}
    for compiler in ("gcc", "musl-gcc"):
        build = [
            compiler,
            "-O2",
            "-Wl,--no-as-needed",
            "words.c",
            "stub.so",
            "-Wl,-rpath,.",
            "-o",
            "words",
        ]
        subprocess.run(build, cwd=tmp_path, check=True)
        done = subprocess.run(["./words"], cwd=tmp_path, capture_output=True, text=True, check=True)
        said[compiler] = done.stdout.split()
    assert said == {"gcc": ["0", f"{names['schedule']:x}"], "musl-gcc": ["1", "0"]}
