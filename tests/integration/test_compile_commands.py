# SPDX-License-Identifier: GPL-2.0-only
"""compile_commands.json, as clangd reads it."""

from __future__ import annotations

import concurrent.futures
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kbridge.kernels import target
from kbridge.verbs import compile_commands

ROOT = Path(__file__).parents[2]
CLANGD = "clangd-16"
SAMPLES = sorted({path.parent for path in ROOT.glob("samples/*/*_kmod.c")})
# task_struct and files, page tables with inline assembly
FEW = [ROOT / "samples" / name for name in ("fd_info", "pagewalk")]
SCONS = str(Path(sys.executable).parent / "scons")

FOREIGN = """
from kbridge import scons_tool
env = Environment(tools=[scons_tool.generate])
env.KBridgeCompileCommands()
env.KBridgeProgram("build/fd_info", app=["fd_info.c"], kmod=["fd_info_kmod.c"])
"""


def clangd(folder: Path, file: Path) -> tuple[int, str]:
    """How many errors clangd sees in the file, and what it says of them."""
    command = [CLANGD, f"--compile-commands-dir={folder}", f"--check={file}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    count = re.search(r"All checks completed, (\d+) errors", done.stderr)
    assert count, done.stderr[-3000:]
    assert bool(done.returncode) == bool(int(count[1]))
    # one that has no commands guesses them, and says so
    assert "Generic fallback command" not in done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("E[")]
    return int(count[1]), "\n".join(said)


def entries(database: Path) -> dict[str, dict[str, object]]:
    found = json.loads(database.read_text())
    by_name = {one["file"]: one for one in found}
    assert len(by_name) == len(found)
    return by_name


def wrong(kbridge, samples: list[Path], release: str, folder: Path) -> list[str]:
    """The sources of these samples in which clangd sees errors for that kernel."""
    database = folder / "compile_commands.json"
    for sample in samples:
        apps = [path for path in sample.glob("*.c") if not path.stem.endswith("_kmod")]
        kmods = [word for path in sample.glob("*_kmod.c") for word in ("--kmod", path)]
        done = kbridge("compile-commands", "--kernel", release, *apps, *kmods, "-o", database)
        assert done.returncode == 0, done.stderr
    files = [Path(name) for name in entries(database)]
    assert len(files) >= 2 * len(samples)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda file: (file, *clangd(folder, file)), files)
        return [f"{file}: {said}" for file, errors, said in found if errors]


def test_clangd_sees_no_error(kbridge, kernels: list[target.KernelTarget], tmp_path: Path) -> None:
    for kernel in kernels:
        folder = tmp_path / kernel.release
        folder.mkdir()
        assert wrong(kbridge, FEW, kernel.release, folder) == []


@pytest.mark.slow
def test_clangd_sees_no_error_in_any_sample(
    kbridge, kernels: list[target.KernelTarget], tmp_path: Path
) -> None:
    for kernel in kernels:
        folder = tmp_path / kernel.release
        folder.mkdir()
        assert wrong(kbridge, SAMPLES, kernel.release, folder) == []


def copied(sample: str, folder: Path) -> Path:
    shutil.copytree(ROOT / "samples" / sample, folder)
    return folder


def test_clangd_sees_what_is_wrong(kbridge, tmp_path: Path) -> None:
    """A member that the kernel has not, libc in a kmod, kernel headers in an app; and the header
    that both include is read as kernel code is.
    """
    folder = copied("fd_info", tmp_path / "with a space")
    (folder / "member.c").write_text(
        "#include <linux/sched.h>\nint m(void);\nint m(void)\n{\n\treturn current->pidd;\n}\n"
    )
    (folder / "libc.c").write_text("#include <stdio.h>\n")
    (folder / "app.c").write_text("#include <linux/sched.h>\nstruct task_struct task;\n")
    kmods = ["--kmod", "member.c", "--kmod", "libc.c", "--kmod", "fd_info_kmod.c"]
    done = kbridge("compile-commands", "app.c", "fd_info.c", *kmods, cwd=folder)
    assert done.returncode == 0, done.stderr
    for name, says in (
        ("member.c", "pidd"),
        ("libc.c", "stdio.h"),
        ("app.c", "type 'struct task_struct' that is never completed"),
    ):
        errors, said = clangd(folder, folder / name)
        assert errors, name
        assert says in said
    for name in ("fd_info.c", "fd_info_kmod.c", "fd_info_kmod.h"):
        assert clangd(folder, folder / name) == (0, "")
    built = {path.suffix for path in folder.iterdir()}
    assert built == {".c", ".h", ".json"}, "nothing is built"


def test_entries_of_other_sources_stay(kbridge, tmp_path: Path) -> None:
    folder = copied("fd_info", tmp_path / "project")
    database = folder / "compile_commands.json"
    shutil.copy(ROOT / "samples/cr3/cr3_kmod.c", folder)
    shutil.copy(ROOT / "samples/cr3/cr3_kmod.h", folder)

    def names() -> set[str]:
        return {Path(name).name for name in entries(database)}

    first = ["compile-commands", "fd_info.c", "--kmod", "fd_info_kmod.c"]
    assert kbridge(*first, cwd=folder).returncode == 0
    assert kbridge("compile-commands", "--kmod", "cr3_kmod.c", cwd=folder).returncode == 0
    assert names() == {"fd_info.c", "fd_info_kmod.c", "cr3_kmod.c"}
    written = database.stat().st_mtime_ns
    done = kbridge(*first, cwd=folder)
    assert "nothing new" in done.stderr
    assert database.stat().st_mtime_ns == written
    (folder / "cr3_kmod.c").unlink()
    assert kbridge(*first, "--cflags=-DMORE", cwd=folder).returncode == 0
    assert names() == {"fd_info.c", "fd_info_kmod.c"}
    assert "-DMORE" in entries(database)[str(folder / "fd_info.c")]["arguments"]


@pytest.mark.parametrize("content", ['{"a": 1}', "int main", "[1, 2]", '[{"file": 3}]'])
def test_a_file_of_another_kind_stays(kbridge, tmp_path: Path, content: str) -> None:
    folder = copied("fd_info", tmp_path / "project")
    database = folder / "compile_commands.json"
    database.write_text(content)
    done = kbridge("compile-commands", "fd_info.c", "--kmod", "fd_info_kmod.c", cwd=folder)
    assert done.returncode == 2
    assert "no list of compile commands" in done.stderr
    assert "Traceback" not in done.stderr
    assert database.read_text() == content


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["fd_info.c"], "no kmod source"),
        (["fd_info.c", "--kmod", "not_here.c"], "no such kmod source"),
        (["fd_info.c", "--kmod", "fd_info_kmod.c", "-o", "."], "."),
        (["fd_info.c", "--kmod", "fd_info_kmod.c", "--kernel", "6.1.0"], "no headers for kernel"),
    ],
)
def test_wrong_requests_are_a_line(kbridge, tmp_path: Path, words: list[str], says: str) -> None:
    folder = copied("fd_info", tmp_path / "project")
    done = kbridge("compile-commands", *words, cwd=folder)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "compile_commands.json").exists()


def test_sources_that_clangd_cannot_read_are_left_out(kbridge, tmp_path: Path) -> None:
    folder = copied("idtool", tmp_path / "project")
    kmods = ["--kmod", "idtool_kmod.c", "--kmod", "idtool_stub.S"]
    assert kbridge("compile-commands", "idtool.c", *kmods, cwd=folder).returncode == 0
    names = {Path(name).name for name in entries(folder / "compile_commands.json")}
    assert names == {"idtool.c", "idtool_kmod.c"}


def scons(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [SCONS, "-Q", *words]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=600, check=False
    )


def test_scons_of_another_project(tmp_path: Path) -> None:
    folder = copied("fd_info", tmp_path / "project")
    (folder / "SConstruct").write_text(FOREIGN)
    done = scons(folder, "compile_commands.json")
    assert done.returncode == 0, done.stderr
    assert not (folder / "build").exists()
    assert clangd(folder, folder / "fd_info_kmod.c") == (0, "")


def test_scons_variable(tmp_path: Path) -> None:
    folder = copied("fd_info", tmp_path / "project")
    out = tmp_path / "out"
    words = ["app=fd_info.c", "kmod=fd_info_kmod.c", f"out={out}", "compiledb=1"]
    done = scons(folder, "-f", str(ROOT / "SConstruct"), *words)
    assert done.returncode == 0, done.stderr
    assert not (out / "fd_info").exists()
    assert set(entries(folder / "compile_commands.json")) == {
        str(folder / "fd_info.c"),
        str(folder / "fd_info_kmod.c"),
    }


def test_several_at_once(tmp_path: Path) -> None:
    """None loses what another one writes."""
    database = tmp_path / "new folder/compile_commands.json"
    names = [str(tmp_path / f"{index}.c") for index in range(40)]

    def add(name: str) -> bool:
        Path(name).touch()
        return compile_commands.merge(
            database, [{"directory": str(tmp_path), "file": name, "arguments": ["cc", name]}]
        )

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(pool.map(add, names))
    assert sorted(entries(database)) == sorted(names)
