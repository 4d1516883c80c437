# SPDX-License-Identifier: GPL-2.0-only
"""samples/makefile, built by make with the real kbridge; the rules themselves are in the unit test.

The project, kbridge's cache and HOME are in folders with a space in their names.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from kbridge.kernels.target import KernelTarget

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "samples/makefile"
GCC = "x86_64-linux-gnu-"


class Project:
    """A copy of the sample."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "my project"
        shutil.copytree(SAMPLE, self.folder)
        self.start = self.names()
        env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        tools = Path(sys.executable).parent
        self.env = {**env, "PATH": f"{tools}:{env['PATH']}"}

    def names(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}

    def command(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["make", *words],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def make(self, *words: str, status: int = 0) -> str:
        with self.command(*words) as process:
            said = process.communicate(timeout=300)[0]
        assert process.returncode == status, said
        return said

    @property
    def program(self) -> Path:
        return self.folder / "snapshot"

    def release(self) -> str:
        """The kernel that the program is for."""
        with self.program.open("rb") as stream:
            note = ELFFile(stream).get_section_by_name(".note.kbridge").data()
        return bytes(note[20:]).partition(b"\0")[0].decode()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_five_lines_are_what_it_takes() -> None:
    """And docs/makefile.md shows them."""
    lines = (SAMPLE / "Makefile").read_text().splitlines()
    ours = [line for line in lines if re.search(r"^[^#]*(KB_|kbridge)", line)]
    shown = (ROOT / "docs/makefile.md").read_text().partition("```diff\n")[2].partition("```")[0]
    assert [line[1:] for line in shown.splitlines() if line.startswith("+")] == ours
    assert len(ours) == 5
    assert {line[1:] for line in shown.splitlines() if line.startswith(" ")} <= {*lines}


def test_the_sample(project: Project, tmp_path: Path) -> None:
    """Everything new, in an empty cache with a space in its path, by four jobs at once."""
    project.env |= {"HOME": str(tmp_path / "my home"), "XDG_CACHE_HOME": ""}
    project.env.pop("KBRIDGE_CACHE", None)
    # what is downloaded is dear: the images of kernels are those of the user's cache
    images = Path(os.environ.get("KBRIDGE_CACHE") or Path.home() / ".cache/kbridge") / "images"
    cache = tmp_path / "my home/.cache/kbridge"
    cache.mkdir(parents=True)
    images.mkdir(exist_ok=True, parents=True)
    (cache / "images").symlink_to(images)
    makefile = project.folder / "Makefile"
    flags = "$(shell kbridge --makefile)\nCFLAGS += $(KB_CFLAGS)\n"
    makefile.write_text(makefile.read_text().replace("$(shell kbridge --makefile)\n", flags))
    with (project.folder / "main.c").open("a") as source:
        source.write("#include <kbridge.h>\n")
    said = project.make("-j4")
    assert "my home" in said
    assert "  KBPIC   tasks_kmod.kmod.o\n" in said
    assert os.access(project.program, os.X_OK)
    assert project.make() == "make: 'snapshot' is up to date.\n"
    assert str(cache / "libkernel") in project.make("-W", "main.c").replace("\\", "")
    project.make("clean")
    assert project.names() == project.start


def test_headers_are_dependencies(project: Project, kernels: list[KernelTarget]) -> None:
    target = kernels[-1]
    project.make(f"KDIR={target.kdir}")
    header = (target.kdir / "include/generated/autoconf.h").resolve()
    for changed, made in ((str(header), 2), ("tasks_kmod.h", 1)):
        said = project.make("-n", "-W", changed, f"KDIR={target.kdir}")
        assert said.count("  KBPIC ") == made, said
        assert said.count("  KBPACK ") == 1


@pytest.mark.slow
def test_kernels(project: Project, kernels: list[KernelTarget]) -> None:
    for target in (kernels[0], kernels[-1]):
        project.make("-j2", f"KERNEL={target.release}")
        assert project.release() == target.release
        assert "up to date" in project.make(f"KERNEL={target.release}")


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("LLVM=-16",),
        ("ARCH=x86_64", f"CROSS_COMPILE={GCC}"),
        ("KB_CODE=kernel", "KB_LINK=script"),
        ("KB_MITIGATIONS=drop", "KB_DEBUG=1"),
        ("O=some where",),
        ("O=../else where", "V=1"),
    ],
)
def test_ways_to_build(project: Project, words: tuple[str, ...]) -> None:
    for _ in range(2):
        said = project.make("-j2", *words)
        assert os.access(project.program, os.X_OK)
    assert said == "make: 'snapshot' is up to date.\n"
    project.make("clean", *words)
    names = project.names() - {"some where"}
    assert names == project.start
    assert not [path for path in project.folder.parent.rglob("*.o") if path.is_file()]


def test_by_pkg_config(project: Project) -> None:
    found = subprocess.run(["kbridge", "pkg-config-path"], env=project.env, check=True,
                           capture_output=True, text=True)  # fmt: skip
    project.env["PKG_CONFIG_PATH"] = found.stdout.strip()
    makefile = project.folder / "Makefile"
    text = makefile.read_text()
    assert "kbridge --makefile" in text
    by = "pkg-config --variable=makefile libkbridge"
    makefile.write_text(text.replace("kbridge --makefile", by))
    assert "KBPIC   tasks_kmod.kmod.o" in project.make("-n", "tasks_kmod.kmod.o", "V=")


@pytest.mark.parametrize(
    "after", [0, *(pytest.param(late, marks=pytest.mark.slow) for late in (0.1, 0.3))]
)
def test_interrupted(project: Project, after: float) -> None:
    """So many seconds after the first compilation began: nothing half-written stays, and the next
    make goes on."""
    with project.command("-j2") as process:
        assert process.stdout
        assert any("KBPIC" in line for line in process.stdout)
        time.sleep(after)
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode != 0
    assert not project.program.exists()
    for path in project.folder.rglob("*.kmod.o"):
        shown = subprocess.run(["readelf", "-S", "--wide", path], capture_output=True, check=True)
        assert not shown.stderr
    assert not [name for name in project.names() if re.search(r"\.o\.\w+$", name)
                and not name.endswith((".d", ".words"))]  # fmt: skip
    project.make("-j2")
    assert os.access(project.program, os.X_OK)
    project.make("clean")
    assert project.names() == project.start


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("KDIR=/nowhere",), "kbridge: error: /nowhere: no such kernel header folder\n"),
        (("KERNEL=RELEASE-",), "kbridge: hint: did you mean RELEASE? "),
        (("KERNEL=1.2.3",), "kbridge: error: no headers for kernel 1.2.3: looked in "),
        (("LLVM=-1",), "clang-1"),
    ],
)
def test_bad_input(
    project: Project, kernels: list[KernelTarget], words: tuple[str, ...], says: str
) -> None:
    release = kernels[-1].release
    said = project.make(*(word.replace("RELEASE", release) for word in words), status=2)
    assert says.replace("RELEASE", release) in said
    assert said.count("kbridge: error: ") == 1
    assert said.endswith("*** kbridge says above what is missing.  Stop.\n")
    assert "Traceback" not in said
    assert not [name for name in project.names() if name.endswith(".kmod.o")]


def test_without_kbridge(project: Project, tmp_path: Path) -> None:
    """As docs/makefile.md says it."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("make", "sh", "cc", "as", "ld"):
        (tools / name).symlink_to(str(shutil.which(name)))
    project.env["PATH"] = str(tools)
    said = project.make(status=2)
    assert "kbridge: No such file or directory" in said
    makefile = project.folder / "Makefile"
    asked = "$(or $(shell kbridge --makefile),$(error kbridge --makefile failed))"
    makefile.write_text(makefile.read_text().replace("$(shell kbridge --makefile)", asked))
    assert project.make(status=2).endswith("Makefile:7: *** kbridge --makefile failed.  Stop.\n")


def test_the_path_is_for_include(tmp_path: Path) -> None:
    """make takes what --makefile prints, also from a cache with a space in its path."""
    env = {**os.environ, "KBRIDGE_CACHE": str(tmp_path / "a cache")}
    command = shlex.join([sys.executable, "-m", "kbridge", "--makefile"])
    (tmp_path / "Makefile").write_text(
        f"include $(shell {command})\nall: ; @$(KBRIDGE) --version\n"
    )
    done = subprocess.run(["make", "-s"], cwd=tmp_path, env=env, capture_output=True, text=True,
                          check=True)  # fmt: skip
    assert done.stdout.startswith("kbridge ")
