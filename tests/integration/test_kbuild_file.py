# SPDX-License-Identifier: GPL-2.0-only
"""Objects and flags of a Kbuild file, and other shapes that kmod sources come in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Kbridge
from elftools.elf.elffile import ELFFile

from kbridge.kernels.target import KernelTarget

ROOT = Path(__file__).parents[2]
# One file for Kbuild and for `make`, as drivers outside the kernel tree have it.
MAKEFILE = """\
ifneq ($(KERNELRELEASE),)
obj-$(CONFIG_MODULES) := mydriver.o
mydriver-y := main.o sub/part.o fast.o
mydriver-$(CONFIG_NO_SUCH_OPTION) += not_there.o
ccflags-y := -I$(src)/include -DFROM_CCFLAGS='"two words"' -DREMOVED_FROM_MAIN
asflags-y := -DFROM_ASFLAGS
CFLAGS_main.o := -DONLY_MAIN
CFLAGS_REMOVE_main.o := -DREMOVED_FROM_MAIN
CFLAGS_sub/part.o := -DONLY_PART
else
all:
	$(MAKE) -C /lib/modules/$(shell uname -r)/build M=$(CURDIR)
endif
"""
MAIN = """\
#include <linux/module.h>
#include <mine.h>
#if !defined(ONLY_MAIN) || defined(ONLY_PART) || defined(REMOVED_FROM_MAIN)
#error flags of main.c
#endif
_Static_assert(sizeof(FROM_CCFLAGS) == 10, "quotation");
int driver_answer(void);
int driver_answer(void)
{
	static_assert(sizeof(KBUILD_MODNAME) == sizeof("mydriver"));
	return part() + (int)fast(1);
}
MODULE_LICENSE("GPL");
"""
PART = """\
#include <mine.h>
#if !defined(ONLY_PART) || defined(ONLY_MAIN) || !defined(REMOVED_FROM_MAIN)
#error flags of part.c
#endif
int part(void) { return 41; }
"""
FAST = """\
#include <linux/linkage.h>
#include <asm/nospec-branch.h>
#ifndef FROM_ASFLAGS
#error flags of fast.S
#endif
SYM_FUNC_START(fast)
	ANNOTATE_NOENDBR
	mov %rdi, %rax
	RET
SYM_FUNC_END(fast)
"""


@pytest.fixture
def driver(tmp_path: Path) -> Path:
    """The folder of a driver: Makefile, two C files, an assembly file, a header."""
    for name, text in {
        "Makefile": MAKEFILE,
        "main.c": MAIN,
        "sub/part.c": PART,
        "fast.S": FAST,
        "include/mine.h": "int part(void);\nlong fast(long x);\n",
    }.items():
        file = tmp_path / "driver" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path / "driver"


def symbols(path: Path) -> set[str]:
    with path.open("rb") as stream:
        return {one.name for one in ELFFile(stream).get_section_by_name(".symtab").iter_symbols()}


@pytest.mark.parametrize("code", ["pic", "kernel"])
def test_objects_and_flags(
    kbridge: Kbridge, kernels: list[KernelTarget], driver: Path, code: str
) -> None:
    for kernel in kernels:
        how = ["--shared", "--kbuild", "Makefile", "--kernel", kernel.release, "--code", code]
        done = kbridge("build", *how, "-o", "out.so", cwd=driver)
        assert done.returncode == 0, done.stderr
        assert {"driver_answer", "part", "fast"} <= symbols(driver / "out.so")
    assert not list(driver.glob("*.o"))


def test_kbuild_reads_it_alike(kernels: list[KernelTarget], driver: Path) -> None:
    command = ["make", "-s", "-C", kernels[-1].kdir, f"M={driver}", "modules"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_never_picked_up_silently(kbridge: Kbridge, driver: Path) -> None:
    done = kbridge("build", "--shared", "--kmod", "main.c", "-o", "out.so", cwd=driver)
    assert done.returncode == 1
    assert "mine.h" in done.stderr


def test_with_sources_of_the_users_own(kbridge: Kbridge, driver: Path, tmp_path: Path) -> None:
    """The driver unchanged, a kmod source that calls it, and an app."""
    (tmp_path / "gate.c").write_text(
        "int driver_answer(void);\nint gate(void);\nint gate(void) { return driver_answer(); }\n"
        "#ifndef FROM_CCFLAGS\n#error it gets the flags of the file\n#endif\n"
    )
    (tmp_path / "app.c").write_text("int gate(void);\nint main(void) { return gate() != 42; }\n")
    words = ["--kmod", "gate.c", "--kmod", "driver/main.c", "--kbuild", "driver/Makefile:mydriver"]
    done = kbridge("build", "app.c", *words, "-o", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    out = f"out={tmp_path / 'build'}"
    command = [sys.executable, "-m", "SCons", "-Q", "-C", ROOT, out, f"app={tmp_path / 'app.c'}"]
    command += [f"kmod={tmp_path / 'gate.c'}", f"kbuild={driver / 'Makefile'}"]
    by_scons = subprocess.run(command, capture_output=True, text=True, check=False)
    assert by_scons.returncode == 0, by_scons.stderr
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "is up to date" in again.stdout
    with (driver / "Makefile").open("a") as stream:
        stream.write("ccflags-y += -DMORE\n")
    changed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert changed.stdout.count("KCC") == 3  # assembly has flags of its own


@pytest.mark.parametrize(
    ("text", "given", "says", "hint"),
    [
        ("obj-m := a.o b.o\n", "Kbuild", "lists several modules: a, b", "Kbuild:a"),
        ("obj-m := a.o b.o\n", "Kbuild:c", "lists no module c", "listed there: a, b"),
        ("obj-m := sub/\n", "Kbuild", "lists folders only (sub/)", "one of them"),
        ("ccflags-y := -DX\n", "Kbuild", "lists no object", "--kmod FILE"),
        ("obj-m := a.o\n", "Kbuild", "neither ./a.c nor ./a.S", "made first"),
        ("obj-m := a.o\nifdef X\n", "Kbuild", "missing 'endif'", "make M="),
        ("obj-m := main.o\nccflags-y := -DX='y\n", "Kbuild", "No closing quotation", "close"),
        ("", "Nothing", "no such Kbuild file", "check"),
        ("", ".", "no such Kbuild file", "check"),
    ],
)
def test_bad_files(
    kbridge: Kbridge, driver: Path, text: str, given: str, says: str, hint: str
) -> None:
    (driver / "Kbuild").write_text(text)
    done = kbridge("build", "--shared", "--kbuild", given, "-o", "out.so", cwd=driver)
    assert done.returncode == 2, done.stderr
    cause, advice = done.stderr.splitlines()[-2:]
    assert says.replace("./", "") in cause.replace("./", "")
    assert hint in advice
    assert not (driver / "out.so").exists()


def test_a_path_that_make_cannot_handle(kbridge: Kbridge, driver: Path) -> None:
    odd = driver.rename(driver.with_name("my driver"))
    done = kbridge("build", "--shared", "--kbuild", odd / "Makefile", "-o", odd / "out.so")
    assert done.returncode == 2
    assert "make cannot handle ' '" in done.stderr


@pytest.mark.parametrize("code", ["pic", "kernel"])
def test_objtool_speaks_of_the_users_files(
    kbridge: Kbridge, kernels: list[KernelTarget], tmp_path: Path, code: str
) -> None:
    (tmp_path / "k.c").write_text('void f(void);\nvoid f(void) { asm("syscall"); }\n')
    for kernel in kernels:
        how = ["--shared", "--kernel", kernel.release, "--code", code, "--allow", "system-call"]
        done = kbridge("build", *how, "--kmod", "k.c", "-o", "out.so", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        (said,) = [line for line in done.stderr.splitlines() if "objtool" in line]
        assert said.startswith(("k.c: warning: objtool", "out: warning: objtool"))


def test_two_kmods_with_a_module_init(kbridge: Kbridge, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.c").write_text(
            "#include <linux/module.h>\nstatic int __init start(void) { return 0; }\n"
            'module_init(start);\nMODULE_LICENSE("GPL");\n'
        )
    words = ["--kmod", "a.c", "--kmod", "b.c", "--shared", "-o", "out.so"]
    done = kbridge("build", *words, cwd=tmp_path)
    assert done.returncode == 1
    assert "several kmod sources define module_init()" in done.stderr
    assert "leave it in one of them" in done.stderr


@pytest.mark.parametrize("code", ["pic", "kernel"])
def test_mitigations_are_kept_or_dropped(
    kbridge: Kbridge, kernels: list[KernelTarget], tmp_path: Path, code: str
) -> None:
    (tmp_path / "k.c").write_text(
        "int f(int (*g)(void));\nint f(int (*g)(void)) { return -g(); }\n"
    )
    for kernel in kernels:
        how = ["--shared", "--kernel", kernel.release, "--code", code]
        for name in ("keep", "drop"):
            words = ["--kmod", "k.c", "-o", f"{name}.so", "--mitigations", name]
            done = kbridge("build", *how, *words, cwd=tmp_path)
            assert done.returncode == 0, done.stderr
            assert "warning" not in done.stderr
            thunk = "LINUX_KERNEL" in subprocess.run(
                ["readelf", "-W", "--dyn-syms", tmp_path / f"{name}.so"],
                capture_output=True, text=True, check=True,
            ).stdout.replace("_text@LINUX_KERNEL", "")  # fmt: skip
            assert thunk == (name == "keep")
