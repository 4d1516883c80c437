# SPDX-License-Identifier: GPL-2.0-only
"""The stage commands: what a foreign build system does with them is what `kbridge build` does."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest
from conftest import Kbridge
from elftools.elf.elffile import ELFFile

from kbridge.kernels import kbuild
from kbridge.kernels.target import KernelTarget

HEADER = "int kmod_pid(void);\nint twice(int word);\n"
KMOD = """\
#include <linux/sched.h>
#include "it.h"
int kmod_pid(void)
{
	return twice(current->pid);
}
"""
TWICE = """\
#include <linux/linkage.h>
#include <asm/nospec-branch.h>
SYM_FUNC_START(twice)
	ANNOTATE_NOENDBR
	lea (%rdi,%rdi), %eax
	RET
SYM_FUNC_END(twice)
"""
APP = """\
#include <stdio.h>
#include "it.h"
int main(void)
{
	printf("%d\\n", kmod_pid());
	return 0;
}
"""


CLOCK = "chrono::system_clock::now()"  # nothing else of C++'s library


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder, with a space in its name, of an app (compiled) and the sources of a kmod."""
    folder = tmp_path / "my project"
    folder.mkdir()
    (folder / "it.h").write_text(HEADER)
    (folder / "kmod.c").write_text(KMOD)
    (folder / "twice.S").write_text(TWICE)
    (folder / "app.c").write_text(APP)
    subprocess.run(["gcc", "-c", "app.c"], cwd=folder, check=True)
    return folder


def section(path: Path, name: str) -> bytes:
    with path.open("rb") as stream:
        found = ELFFile(stream).get_section_by_name(name)
        return bytes(found.data()) if found else b""


def relocations(path: Path) -> list[str]:
    """What ld.so is to fill, without places and indexes."""
    done = subprocess.run(["readelf", "-rW", path], capture_output=True, text=True, check=True)
    rows = [line.split() for line in done.stdout.splitlines() if "@LINUX_KERNEL" in line]
    return sorted(" ".join(row[2:]) for row in rows)


def compiled(kbridge: Kbridge, project: Path, *how: str | Path) -> list[str]:
    """The kmod's objects."""
    for source in ("kmod.c", "twice.S"):
        # the name too: it is what the build of the whole gives to each source
        words = ("pic", source, "-o", f"{Path(source).stem}.o", "--name", "whole", *how)
        done = kbridge(*words, cwd=project)
        assert done.returncode == 0, done.stderr
    return ["kmod.o", "twice.o"]


@pytest.mark.parametrize(
    ("code", "mode"),
    [
        ("pic", "libkernel"),
        ("kernel", "script"),
        pytest.param("pic", "script", marks=pytest.mark.slow),
        pytest.param("kernel", "libkernel", marks=pytest.mark.slow),
    ],
)
def test_the_stages_make_what_build_makes(
    kbridge: Kbridge, project: Path, kernels: list[KernelTarget], code: str, mode: str
) -> None:
    how = ("--kernel", kernels[-1].release)
    whole = ("app.c", "--kmod", "kmod.c", "--kmod", "twice.S", "-o", "whole")
    done = kbridge("build", *whole, *how, "--code", code, "--link", mode, cwd=project)
    assert done.returncode == 0, done.stderr
    objects = compiled(kbridge, project, *how, "--code", code)
    # no --kernel from here on: the objects say it
    done = kbridge("pack", *objects, "-o", "packed.o", "--link", mode, cwd=project)
    assert done.returncode == 0, done.stderr
    libs = kbridge("libs", *how, "--link", mode, cwd=project).stdout.strip()
    assert "\n" not in libs
    subprocess.run(["gcc", "app.o", "packed.o", *shlex.split(libs), "-o", "own"],
                   cwd=project, check=True)  # fmt: skip
    for output, given in (("linked", ["packed.o"]), ("direct", objects)):
        words = ("link", "app.o", *given, "-o", output, "--link", mode)
        done = kbridge(*words, cwd=project)
        assert done.returncode == 0, done.stderr
    image = section(project / "whole", ".kbridge")
    assert image
    for program in ("own", "linked", "direct"):
        path = project / program
        assert section(path, ".kbridge") == image
        assert relocations(path) == relocations(project / "whole")
        assert bool(relocations(path)) == (mode == "libkernel")
        assert not section(path, ".kbridge.description")
        assert os.access(path, os.X_OK)


@pytest.mark.slow
def test_every_kernel(kbridge: Kbridge, project: Path, kernels: list[KernelTarget]) -> None:
    for target in kernels:
        objects = compiled(kbridge, project, "--kdir", target.kdir)
        done = kbridge("link", "app.o", *objects, "-o", "app", cwd=project)
        assert done.returncode == 0, done.stderr
        done = kbridge("inspect", "app", cwd=project)
        assert target.release in done.stdout


def test_a_library(kbridge: Kbridge, project: Path) -> None:
    objects = compiled(kbridge, project)
    done = kbridge("link", *objects, "--shared", "-o", "libit.so", cwd=project)
    assert done.returncode == 0, done.stderr
    done = kbridge("pack", *objects, "-g", "-o", "packed.o", cwd=project)
    assert done.returncode == 0, done.stderr
    assert section(project / "packed.o.kmod.debug", ".debug_info")
    library = subprocess.run(["readelf", "-W", "--dyn-syms", "libit.so"], cwd=project,
                             capture_output=True, text=True, check=True)  # fmt: skip
    assert "kmod_pid" in library.stdout


def test_an_app_in_cxx(kbridge: Kbridge, project: Path) -> None:
    objects = compiled(kbridge, project)
    for header, used in (("iostream", "cout << kmod_pid()"), ("chrono", CLOCK)):
        (project / "app.cc").write_text(
            f'#include <{header}>\nextern "C" {{\n#include "it.h"\n}}\n'
            f"int main() {{ std::{used}; return kmod_pid(); }}\n"
        )
        subprocess.run(["g++", "-c", "app.cc"], cwd=project, check=True)
        done = kbridge("link", "app.o", *objects, "-o", "app", cwd=project)
        assert done.returncode == 0, done.stderr


def test_names_that_look_like_options(kbridge: Kbridge, project: Path) -> None:
    kmod, twice = compiled(kbridge, project)
    (project / "-a.o").write_bytes((project / "app.o").read_bytes())
    (project / "@k.o").write_bytes((project / kmod).read_bytes())
    done = kbridge("link", "-o", "app", twice, "@k.o", "--", "-a.o", cwd=project)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("5", "not what kbridge pack wrote, or damaged"),
        ("{}", "packed by another version of kbridge"),
        ('{"format": 1}', "not what kbridge pack wrote, or damaged"),
    ],
)
def test_a_description_of_others(
    kbridge: Kbridge, made: Path, tmp_path: Path, text: str, says: str
) -> None:
    (tmp_path / "text").write_text(text)
    update = ["objcopy", "--update-section", f".kbridge.description={tmp_path}/text"]
    subprocess.run([*update, made / "packed.o", tmp_path / "packed.o"], check=True)
    done = kbridge("link", made / "app.o", "packed.o", "-o", "app", cwd=tmp_path)
    assert done.returncode == 1
    assert f"kbridge: error: packed.o: {says}\n" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_flags_are_what_the_object_is_compiled_with(
    kbridge: Kbridge, project: Path, kernels: list[KernelTarget]
) -> None:
    """The compiler, called with the flags that cflags prints, makes the same code."""
    gcc = kbuild.flags(kernels[-1]).compile[0]
    how = ("--kernel", kernels[-1].release)
    done = kbridge("pic", "kmod.c", "-o", "ours.o", *how, cwd=project)
    assert done.returncode == 0, done.stderr
    flags = kbridge("cflags", "--name", "ours", "-I", "a folder", *how, cwd=project).stdout
    assert flags.count("\n") == 1
    assert "'-Ia folder'" in flags
    subprocess.run(["sh", "-c", f"{gcc} {flags.strip()} -c kmod.c -o theirs.o"],
                   cwd=project, check=True)  # fmt: skip
    ours, theirs = (section(project / name, ".text") for name in ("ours.o", "theirs.o"))
    assert ours == theirs


def test_a_depfile_is_a_rule_for_make(kbridge: Kbridge, project: Path) -> None:
    headers = project / "more headers"
    headers.mkdir()
    (headers / "more.h").write_text("")
    (project / "kmod.c").write_text('#include "more.h"\n' + KMOD)
    how = ("-o", "sub/kmod.o", "-I", "more headers", "--depfile", "sub/kmod.d")
    done = kbridge("pic", "kmod.c", *how, cwd=project)
    assert done.returncode == 0, done.stderr

    (project / "Makefile").write_text("sub/kmod.o: ; false\ninclude sub/kmod.d\n")

    def outdated() -> bool:
        command = ["make", "-q", "sub/kmod.o"]
        return subprocess.run(command, cwd=project, check=False).returncode == 1

    (project / "sub/kmod.o").touch()
    assert not outdated()
    for header in (project / "it.h", headers / "more.h"):
        os.utime(header, (2**32, 2**32))
        assert outdated()
        os.utime(header, (0, 0))
    assert kbridge("pic", "kmod.c", *how, cwd=project).returncode == 0  # it is replaced
    (headers / "more.h").unlink()  # make can still tell, and has it compiled again
    assert outdated()


def test_a_failed_compilation_leaves_what_was_there(kbridge: Kbridge, project: Path) -> None:
    compiled(kbridge, project)
    before = (project / "kmod.o").read_bytes()
    (project / "kmod.c").write_text("#include <stdio.h>\n")
    done = kbridge("pic", "kmod.c", "-o", "kmod.o", "--depfile", "kmod.d", cwd=project)
    assert done.returncode == 1
    assert "kernel headers only" in done.stderr
    assert (project / "kmod.o").read_bytes() == before
    names = {"it.h", "kmod.c", "twice.S", "app.c", "app.o", "kmod.o", "twice.o"}
    assert {path.name for path in project.iterdir()} == names


BAD = [
    (("pic", "none.c", "-o", "o.o"), 2, "none.c: no such kmod source"),
    (("pic", "it.h", "-o", "o.o"), 2, "it.h: not a kmod source"),
    (("pic", "kmod.c"), 2, "-o FILE"),
    (("pic", "kmod.c", "-o", "kmod.c"), 2, "kmod.c: is there and not what kbridge writes"),
    (("pack", "none.o", "-o", "o.o"), 2, "none.o: no such object"),
    (("pack", "kmod.o", "-o", "kmod.o"), 2, "kmod.o: is to be read and written"),
    (("pack", "it.h", "-o", "o.o"), 2, "it.h: not an object"),
    (("pack", "packed.o", "-o", "o.o"), 2, "packed.o: already packed"),
    (("pack", "other.o", "kmod.o", "-o", "o.o"), 2, "compile all of them for one kernel"),
    (("link", "app.o", "-o", "o"), 2, "no kmod object among them"),
    (("link", "kmod.o", "twice.o", "-o", "o"), 2, "no app object"),
    (("link", "app.o", "packed.o", "kmod.o", "-o", "o"), 2, "one packed object"),
    (("link", "app.c", "packed.o", "-o", "o"), 2, "app.c: a source"),
    (("link", "app.o", "damaged.o", "-o", "o"), 1, "damaged"),
    (("pic", "kmod.c", "-o", "o.o", "--depfile", "it.h"), 2, "it.h: is there and no depfile"),
    (("pic", "kmod.c", "-o", "o.o", "--depfile", "Makefile"), 2, "Makefile: is there and no "),
    (("pic", "kmod.c", "-o", "o.o", "--depfile", "of-another.d"), 2, "no depfile of kmod.c"),
    (("pic", "kmod.c", "-o", "o.o", "--depfile", "."), 2, ".: not a regular file"),
    (("pic", "kmod.c", "-o", "o.o", "--depfile", "/dev/null"), 2, "not a regular file"),
    (("pic", "kmod.c", "-o", "o.o", "--depfile", "kmod.c"), 2, "kmod.c: is to be read and"),
    (("pic", "kmod.c", "-o", "o.o", "--depfile", "./o.o"), 2, "the object and its depfile"),
    (("pack", "kmod.o", "kmod.o", "-o", "o.o"), 2, "kmod.o: given twice"),
    (("pack", "a-pipe", "-o", "o.o"), 2, "a-pipe: a pipe, and no object"),
    (("link", "app.C", "packed.o", "-o", "o"), 2, "app.C: a source"),
    (("link", "app.o", "packed.o", "-o", "o", "-g"), 2, "already packed, and -g is for packing"),
    (("link", "app.o", "packed.o", "-o", "o", "--name", "n"), 2, "and --name is for packing"),
    (("link", "app.o", "packed.o", "-o", "o", "--link", "script"), 2, "and --link is for"),
    (("link", "app.o", "packed.o", "-o", "o", "--allow", "stack"), 2, "and --allow is for"),
    (("link", "app.o", "packed.o", "-o", "o", "--symbol", "a=0x1"), 2, "and --symbol is for"),
    (("link", "app.o", "packed.o", "-o", "o", "--stack-limit", "9"), 2, "and --stack-limit is"),
    (("link", "app.o", "packed.o", "-o", "o", "--mitigations", "drop"), 2, "and --mitigations"),
    (("link", "app.o", "packed.o", "-o", "o", "--kernel", "FIRST"), 2, "packed.o is for kernel "),
    (("link", "app.o", "kmod.o", "-o", "o", "--kernel", "FIRST"), 2, "kmod.o is for kernel "),
    (("libs", "--kernel", "6.1.0-nothing"), 2, "no headers for kernel 6.1.0-nothing"),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, kbridge: Kbridge,
         kernels: list[KernelTarget]) -> Path:  # fmt: skip
    """A folder with all that the table of bad input names."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "it.h").write_text(HEADER)
    (folder / "kmod.c").write_text(KMOD)
    (folder / "twice.S").write_text(TWICE)
    (folder / "app.c").write_text(APP)
    subprocess.run(["gcc", "-c", "app.c"], cwd=folder, check=True)
    compiled(kbridge, folder, "--kernel", kernels[-1].release)
    for words in (
        ("pack", "kmod.o", "twice.o", "-o", "packed.o"),
        ("pic", "kmod.c", "-o", "other.o", "--kernel", kernels[0].release),
    ):
        done = kbridge(*words, cwd=folder)
        assert done.returncode == 0, done.stderr
    (folder / "Makefile").write_text("o.o: kmod.c it.h\n\ttouch o.o\n")
    (folder / "of-another.d").write_text("other.o: other.c it.h\n\nit.h:\n")
    (folder / "app.C").touch()
    os.mkfifo(folder / "a-pipe")
    (folder / "damaged.o").write_bytes((folder / "packed.o").read_bytes()[:900])
    return folder


@pytest.mark.parametrize(("words", "status", "says"), BAD)
def test_bad_input(
    kbridge: Kbridge,
    made: Path,
    kernels: list[KernelTarget],
    words: tuple[str, ...],
    status: int,
    says: str,
) -> None:
    words = tuple(word.replace("FIRST", kernels[0].release) for word in words)
    before = {path: path.read_bytes() for path in made.iterdir() if path.is_file()}
    done = kbridge(*words, cwd=made)
    assert (done.returncode, done.stdout) == (status, "")
    assert says in done.stderr
    assert done.stderr.count("kbridge: hint: ") == 1
    assert "Traceback" not in done.stderr
    assert {path: path.read_bytes() for path in made.iterdir() if path.is_file()} == before


def test_checks_of_build_hold_for_link(kbridge: Kbridge, project: Path) -> None:
    """What has no gate is named, whether the kmod's objects are packed or not."""
    compiled(kbridge, project)
    (project / "it.h").write_text(HEADER + "extern int counter;\n")
    (project / "kmod.c").write_text(KMOD + "int counter;\n")
    (project / "app.c").write_text(APP.replace("kmod_pid()", "counter"))
    subprocess.run(["gcc", "-c", "app.c"], cwd=project, check=True)
    objects = compiled(kbridge, project)
    assert kbridge("pack", *objects, "-o", "packed.o", cwd=project).returncode == 0
    for given in (objects, ["packed.o"]):
        done = kbridge("link", "app.o", *given, "-o", "app", cwd=project)
        assert done.returncode == 1
        assert "app.o: uses counter of the kmod, which has no gate" in done.stderr
        assert not (project / "app").exists()
