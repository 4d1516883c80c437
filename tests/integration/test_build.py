# SPDX-License-Identifier: GPL-2.0-only
"""kbridge build and scons against real headers; nothing is run here."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Kbridge
from elftools.elf.elffile import ELFFile

from kbridge.kernels import image as images
from kbridge.kernels import target
from kbridge.kernels.target import KernelTarget

ROOT = Path(__file__).parents[2]
KMOD = """\
#include <linux/sched.h>
#include "it.h"
int kmod_pid(void)
{
	return current->pid;
}
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


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder, with a space in its name, of an app and a kmod."""
    folder = tmp_path / "my project"
    folder.mkdir()
    (folder / "it.h").write_text("int kmod_pid(void);\n")
    (folder / "kmod.c").write_text(KMOD)
    (folder / "app.c").write_text(APP)
    return folder


Scons = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def scons(project: Path) -> Scons:
    """scons by the checkout's SConstruct, in the project's folder, building into its `build`."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        given = words or (f"app={project / 'app.c'}", f"kmod={project / 'kmod.c'}")
        command = [sys.executable, "-m", "SCons", "-Q", "-C", ROOT, f"out={project / 'build'}"]
        return subprocess.run(
            [*command, *given], capture_output=True, text=True, check=False, cwd=project
        )

    return run


def is_program(path: Path) -> bool:
    with path.open("rb") as stream:
        return ELFFile(stream)["e_type"] in ("ET_DYN", "ET_EXEC")


# -- kbridge build --


@pytest.mark.parametrize("code", ["pic", "kernel"])
@pytest.mark.parametrize("link", ["libkernel", "script"])
def test_builds_for_every_kernel(
    kbridge: Kbridge, kernels: list[KernelTarget], project: Path, code: str, link: str
) -> None:
    for kernel in kernels:
        out = project / kernel.release
        how = ["--kernel", kernel.release, "--code", code, "--link", link]
        done = kbridge("build", "app.c", "--kmod", "kmod.c", "-o", out, *how, cwd=project)
        assert done.returncode == 0, done.stderr
        assert is_program(out)
        assert os.access(out, os.X_OK)


def test_shared_with_and_without_app(kbridge: Kbridge, project: Path) -> None:
    for app in ([], ["app.c"]):
        out = project / f"lib{len(app)}.so"
        done = kbridge("build", *app, "--kmod", "kmod.c", "--shared", "-o", out, cwd=project)
        assert done.returncode == 0, done.stderr
        symbols = subprocess.run(
            ["readelf", "-W", "--dyn-syms", out], capture_output=True, text=True, check=True
        ).stdout
        assert " kmod_pid" in symbols


def test_several_kmods_and_cxx(kbridge: Kbridge, project: Path) -> None:
    other = project / "sub"
    other.mkdir()
    (other / "kmod.c").write_text(
        '#include "it.h"\nint other(void);\nint other(void) { return kmod_pid(); }\n'
    )
    (project / "app.cc").write_text(
        'extern "C" int other(void);\nint main() { auto x = other(); return x == 0; }\n'
    )
    words = ["app.cc", "--kmod", "kmod.c", "--kmod", "sub/kmod.c", "-I", ".", "-o", "x"]
    done = kbridge("build", *words, cwd=project)
    assert done.returncode == 0, done.stderr


Bad = tuple[str, str, list[str]]
BAD: dict[str, Bad] = {
    "unknown symbol": (
        "kmod.c",
        '#include <linux/printk.h>\nextern int no_such_thing_at_all(void);\n#include "it.h"\n'
        "int kmod_pid(void)\n{\n\treturn no_such_thing_at_all();\n}\n",
        ["kmod.c:6: kernel", "has no symbol no_such_thing_at_all"],
    ),
    "near matches": (
        "kmod.c",
        '#include <linux/types.h>\nextern int ksys_writ(void);\n#include "it.h"\n'
        "int kmod_pid(void)\n{\n\treturn ksys_writ();\n}\n",
        ["ksys_write"],
    ),
    "ambiguous symbol": (
        "kmod.c",
        '#include <linux/types.h>\nextern int c_start(void);\n#include "it.h"\n'
        "int kmod_pid(void)\n{\n\treturn c_start();\n}\n",
        ["kmod.c:6: kernel", "definitions of c_start"],
    ),
    "kmod does not compile": ("kmod.c", "int f(void) { return x; }\n", ["'x' undeclared"]),
    "user header in the kmod": ("kmod.c", "#include <stdio.h>\n", ["kernel headers only"]),
    "app does not compile": ("app.c", "int main(void) { return y; }\n", ["'y' undeclared"]),
    "no such kmod function": (
        "app.c",
        "int kmod_pd(void); int main(void) { return kmod_pd(); }\n",
        ["kmod_pd: neither", "near, in the kmod: kmod_pid"],
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_sources(kbridge: Kbridge, project: Path, name: str) -> None:
    file, text, says = BAD[name]
    (project / file).write_text(text)
    done = kbridge("build", "app.c", "--kmod", "kmod.c", "-o", "out", cwd=project)
    assert done.returncode == 1
    said = done.stderr.replace("\u2018", "'").replace("\u2019", "'")
    for word in says:
        assert word in said
        assert said.count("undeclared") <= 2
    assert "Traceback" not in said
    left = {path.name for path in project.iterdir()}
    assert left == {"app.c", "kmod.c", "it.h"}


@pytest.mark.parametrize(
    ("definition", "use", "says"),
    [
        ("int v(const char *f, ...) { return 0; }", "int v(const char *, ...);", "variadic"),
        ("long v(void) { return 0; } double w;", "extern double w;", "variable"),
    ],
)
def test_only_what_the_app_uses_needs_a_gate(
    kbridge: Kbridge, project: Path, definition: str, use: str, says: str
) -> None:
    flags = "-Wno-missing-prototypes -Wno-missing-declarations"
    with (project / "kmod.c").open("a") as stream:
        stream.write(definition + "\n")
    words = ["build", "app.c", "--kmod", "kmod.c", "-o", "out", f"--kcflags={flags}"]
    assert kbridge(*words, cwd=project).returncode == 0
    (project / "out").unlink()
    name = "w" if "double w" in use else "v"
    value = "w > 1" if name == "w" else 'v("")'
    uses = f"{use}\nint main(void) {{ return {value}; }}\n"
    (project / "app.c").write_text(uses)
    done = kbridge(*words, cwd=project)
    assert done.returncode == 1
    assert f"app.c: uses {name} of the kmod" in done.stderr
    assert says in done.stderr
    assert not (project / "out").exists()


def test_missing_and_unreadable(kbridge: Kbridge, project: Path) -> None:
    for words, says in [
        (["nope.c", "--kmod", "kmod.c", "-o", "x"], "nope.c: no such app source"),
        (["app.c", "--kmod", "nope.c", "-o", "x"], "nope.c: no such kmod source"),
        (["app.c", "--kmod", ".", "-o", "x"], ".: a folder"),
        (["app.c", "it_kmod.c", "-o", "x"], "hint: did you mean --kmod it_kmod.c?"),
        (["app.c", "--kmod", "kmod.c", "-o", "."], ".: is a folder"),
        (["app.c", "--kmod", "kmod.c", "-o", "x", "--kernel", "1.2.3"], "/lib/modules/1.2.3"),
        (["app.c", "--kmod", "kmod.c", "-o", "x", "--kdir", "sub"], "no such kernel header"),
    ]:
        done = kbridge("build", *words, cwd=project)
        assert done.returncode == 2, done.stderr
        assert says in done.stderr
        assert "hint" in done.stderr or "folder" in done.stderr


@pytest.mark.parametrize("output", ["app.c", "kmod.c", "it.h", "/dev/full", "sub/", "no/../app.c"])
def test_what_is_no_program_is_not_replaced(kbridge: Kbridge, project: Path, output: str) -> None:
    before = {path: path.read_bytes() for path in project.iterdir()}
    done = kbridge("build", "app.c", "--kmod", "kmod.c", "-o", output, cwd=project)
    assert done.returncode == 2, done.stderr
    assert "hint" in done.stderr
    assert {path: path.read_bytes() for path in project.iterdir()} == before
    assert Path("/dev/full").is_char_device()


def test_what_is_no_debug_file_is_not_replaced(kbridge: Kbridge, project: Path) -> None:
    (project / "out.kmod.debug").write_text("mine\n")
    done = kbridge("build", "app.c", "--kmod", "kmod.c", "-g", "-o", "out", cwd=project)
    assert done.returncode == 2
    assert "out.kmod.debug: is there and not what kbridge writes" in done.stderr
    assert (project / "out.kmod.debug").read_text() == "mine\n"
    assert not (project / "out").exists()


def test_a_kmod_without_kernel_symbols_or_functions(kbridge: Kbridge, project: Path) -> None:
    words = ["build", "app.c", "--kmod", "kmod.c", "-o", "out", "--code", "kernel"]
    (project / "kmod.c").write_text('#include "it.h"\nint kmod_pid(void) { return 1; }\n')
    done = kbridge(*words, "--kcflags=-mfunction-return=keep", cwd=project)
    assert done.returncode == 0, done.stderr
    (project / "kmod.c").write_text("")
    done = kbridge(*words, cwd=project)
    assert done.returncode == 1
    assert "the kmod defines no function" in done.stderr


def test_messages_are_about_the_source_as_written(kbridge: Kbridge, project: Path) -> None:
    """Not about what the preprocessor made of it: columns and macros are the source's."""
    (project / "kmod.c").write_text(
        "#include <linux/bug.h>\n#include <linux/errno.h>\nint kmod_pid(void);\n"
        "int kmod_pid(void)\n{\n\tif (WARN_ON(1)) return undeclared_thing;\n\treturn -EINVAL;\n}\n"
    )
    done = kbridge("build", "app.c", "--kmod", "kmod.c", "-o", "out", cwd=project)
    assert done.returncode == 1
    found = re.findall(r"kmod\.c:6:3\d: error: .undeclared_thing. undeclared", done.stderr)
    assert len(found) == 1, done.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_closed_streams(project: Path, closed: str) -> None:
    command = f"'{sys.executable}' -m kbridge build app.c --kmod kmod.c -o out {closed}"
    done = subprocess.run(
        ["sh", "-c", command], cwd=project, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert is_program(project / "out")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    assert os.geteuid() == 0, "the tests of full and read-only disks mount: run them as root"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "none", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_full_disk(kbridge: Kbridge, project: Path, small_disk: Path) -> None:
    out = small_disk / "x"
    done = kbridge("build", "app.c", "--kmod", "kmod.c", "-o", out, cwd=project)
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert not list(small_disk.iterdir())


def test_read_only_folder(kbridge: Kbridge, scons: Scons, project: Path, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    done = kbridge("build", "app.c", "--kmod", "kmod.c", "-o", small_disk / "x", cwd=project)
    assert done.returncode == 1
    assert "Read-only file system" in done.stderr
    made = scons(f"app={project / 'app.c'}", f"kmod={project / 'kmod.c'}", f"out={small_disk}")
    assert made.returncode == 2
    assert "Read-only file system" in made.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("after", [0.0, 0.1, 0.3])
def test_interrupted(project: Path, number: signal.Signals, after: float) -> None:
    """`after` seconds after its first word: before that Python itself starts."""
    plain = Path(tempfile.mkdtemp(prefix="kbridge-test-", dir="/tmp"))
    words = ["build", "-v", "app.c", "--kmod", "kmod.c", "-o", "x"]
    process = subprocess.Popen(
        [sys.executable, "-m", "kbridge", *words],
        cwd=project,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(plain)},
    )
    assert process.stderr is not None
    assert process.stderr.readline().startswith("kbridge:")
    time.sleep(after)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    left = list(plain.iterdir())
    shutil.rmtree(plain)
    assert process.returncode in (0, -number), said
    assert "Traceback" not in said
    assert not left
    assert {path.name for path in project.iterdir()} <= {"app.c", "kmod.c", "it.h", "x"}


# -- scons --


def test_scons_redoes_only_what_changed(scons: Scons, project: Path) -> None:
    first = scons()
    assert first.returncode == 0, first.stderr
    assert is_program(project / "build/app")
    null = scons()
    assert "up to date" in null.stdout
    assert "KCC" not in null.stdout
    (project / "app.c").write_text(APP.replace("%d", "pid %d"))
    second = scons()
    assert " CC " in second.stdout
    assert "KCC" not in second.stdout
    (project / "kmod.c").write_text(KMOD.replace("current->pid", "current->tgid"))
    third = scons()
    assert "KCC" in third.stdout
    assert " CC " not in third.stdout
    (project / "it.h").write_text("int kmod_pid(void); /* both */\n")
    fourth = scons()
    assert "KCC" in fourth.stdout
    assert " CC " in fourth.stdout
    assert "up to date" in scons().stdout


def test_scons_variables(scons: Scons, project: Path) -> None:
    sources = (f"app={project / 'app.c'}", f"kmod={project / 'kmod.c'}")
    for words, made in [
        (["name=other"], "other"),
        (["shared=1", "name=lib"], "lib.so"),
        (["code=kernel", "link=script", "name=k"], "k"),
        (["cflags=-DX -Wall", "kcflags=-DY", "ldflags=-Wl,-z,now", "name=f", "V=1"], "f"),
    ]:
        done = scons(*sources, *words)
        assert done.returncode == 0, done.stderr
        assert is_program(project / "build" / made)
    assert "-DY" in done.stdout
    assert scons(sources[1], "shared=1", "name=alone").returncode == 0


def test_scons_notices_changed_variables(scons: Scons, project: Path) -> None:
    sources = (f"app={project / 'app.c'}", f"kmod={project / 'kmod.c'}")
    assert scons(*sources).returncode == 0
    for words, stages in [
        (["kcflags=-DX"], {"KCC"}),
        (["kcflags=-DX", "cflags=-DY"], {"CC"}),
        (["kcflags=-DX", "cflags=-DY", "code=kernel"], {"KCC", "KLD", "GATES", "LD"}),
        (["kcflags=-DX", "cflags=-DY", "code=kernel", "ldflags=-Wl,-z,now"], {"LD"}),
        (["kcflags=-DX", "cflags=-DY", "code=kernel", "link=script"], {"GATES", "LD"}),
    ]:
        done = scons(*sources, *words)
        assert done.returncode == 0, done.stderr
        assert stages <= {line.split()[0] for line in done.stdout.splitlines()}
        assert "is up to date" in scons(*sources, *words).stdout


def test_scons_bad_input(scons: Scons, project: Path) -> None:
    sources = (f"app={project / 'app.c'}", f"kmod={project / 'kmod.c'}")
    for words, says in [
        ((*sources, "kernle=x"), "did you mean kernel=?"),
        ((*sources, "code=pik"), "did you mean pic?"),
        ((*sources, "kernel=1.2.3"), "no headers for kernel 1.2.3"),
        ((*sources, "name=../x"), "a name, not a path"),
        ((f"app={project}", sources[1]), "a folder"),
        ((*sources, f"out={project}", "name=app.c"), "app.c: would be replaced"),
        ((sources[0],), "no kmod source"),
        ((sources[1],), "no app source"),
        (("app=nope.c", sources[1]), "nope.c: no such app source"),
    ]:
        done = scons(*words)
        assert done.returncode == 2
        assert says in done.stderr
        assert "Traceback" not in done.stderr
    (project / "kmod.c").write_text("int f(void) { return x; }\n")
    done = scons()
    assert done.returncode == 2
    assert "does not compile as kernel code" in done.stderr
    assert not (project / "build/app").exists()


def test_scons_clean(scons: Scons, project: Path) -> None:
    scons()
    scons("-c", f"app={project / 'app.c'}", f"kmod={project / 'kmod.c'}")
    left = [path.name for path in (project / "build").rglob("*") if path.is_file()]
    assert left == ["sconsign.dblite"]


def test_gen_libkernel(kbridge: Kbridge, project: Path) -> None:
    done = kbridge("gen-libkernel", "-o", "libkernel.so", cwd=project)
    assert done.returncode == 0, done.stderr
    assert (project / "libkernel.so").stat().st_size > 4_000_000
    assert (project / "libkernel.so.stub").is_file()
    vmlinuz = images.find(target.find().release).vmlinuz
    same = kbridge("gen-libkernel", "--symbols", vmlinuz, "-o", "same.so", cwd=project)
    assert same.returncode == 0, same.stderr
    assert (project / "same.so").read_bytes() == (project / "libkernel.so").read_bytes()
    (project / "map").write_text("ffffffff81000000 T _stext\nffffffff81000010 D jiffies\n")
    done = kbridge("gen-libkernel", "--symbols", "map", "-o", "small.so", cwd=project)
    assert done.returncode == 0, done.stderr
    shown = subprocess.run(
        ["readelf", "-W", "--dyn-syms", project / "small.so"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert re.search(r"ffffffff81000010 +0 OBJECT .* ABS jiffies@LINUX_KERNEL", shown.stdout)
    bad = kbridge("gen-libkernel", "--symbols", "kmod.c", "-o", "no.so", cwd=project)
    assert bad.returncode == 1
    assert "line 1 is no symbol" in bad.stderr
    assert "hint: a symbol is a line of address" in bad.stderr
    assert not (project / "no.so").exists()
    bad = kbridge("gen-libkernel", "-o", "kmod.c", cwd=project)
    assert bad.returncode == 2
    assert "is not replaced" in bad.stderr
