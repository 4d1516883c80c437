# SPDX-License-Identifier: GPL-2.0-only
"""What is said of the kernel stack when kmods are built: gcc and clang, both code models, every
kernel; and what the walk finds beside the kernel's own objtool."""

from __future__ import annotations

import bisect
import json
import os
import re
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import Kbridge

from kbridge import options, pack, stack, stackwalk
from kbridge.kernels.target import KernelTarget
from kbridge.verbs import build

ROOT = Path(__file__).parents[2]
COMPILERS = {"gcc": {}, "clang": {"LLVM": "-16"}}
# code model, compiler, and how many kernels, the newest first
CASES = [
    ("pic", "gcc", 1),
    ("kernel", "clang", 1),
    *(
        pytest.param(code, compiler, None, marks=pytest.mark.slow)
        for code in options.CODE_MODELS
        for compiler in COMPILERS
    ),
]
_ORC_SP = 5  # ORC_REG_SP: arch/x86/include/asm/orc_types.h

UNKNOWN = """
#include <linux/kernel.h>
#include <linux/string.h>
int walk(int n), even(int n), odd(int n), array(int n);
int walk(int n) { char b[64]; memset(b, n, 64); return n ? walk(n - 1) * walk(n / 2) : b[0]; }
noinline int even(int n) { barrier(); n = n ? odd(n - 1) : 1; barrier(); return n + 1; }
noinline int odd(int n) { barrier(); n = n ? even(n - 1) : 1; barrier(); return n + 1; }
int array(int n) { char b[n]; memset(b, n, n); OPTIMIZER_HIDE_VAR(n); return b[n - 1]; }
"""
LARGE = """
#include <linux/kernel.h>
#include <linux/string.h>
int large(int n);
static noinline int inner(int n) { char b[6000]; memset(b, n, sizeof(b)); barrier(); return b[n]; }
int large(int n) { char b[5000]; memset(b, n, sizeof(b)); barrier(); return inner(n) + b[n]; }
"""


def said(stderr: str) -> list[str]:
    """What kbridge says of the stack; compilers have words of their own."""
    return [line for line in stderr.splitlines() if line.startswith("kbridge") and "stack" in line]


@pytest.mark.parametrize(("code", "compiler", "most"), CASES)
def test_messages(
    kbridge: Kbridge,
    kernels: list[KernelTarget],
    tmp_path: Path,
    code: str,
    compiler: str,
    most: int | None,
) -> None:
    env = {**os.environ, **COMPILERS[compiler]}
    unknown, large = tmp_path / "unknown.c", tmp_path / "large.c"
    unknown.write_text(UNKNOWN)
    large.write_text(LARGE)
    for kernel in kernels[::-1][:most]:
        words = ["build", "--shared", "--kernel", kernel.release, "--code", code]
        words += ["-o", str(tmp_path / "it.so"), "--kmod"]
        done = kbridge(*words, unknown, env=env)
        assert done.returncode == 0, done.stderr
        lines = said(done.stderr)
        assert any(
            re.search(r"unknown\.c:5: recursion.*: walk\(\) calls itself;", x) for x in lines
        )
        assert any(re.search(r"unknown\.c:[67]: recursion.*(even|odd)\(\) calls", x) for x in lines)
        assert any(re.search(r"unknown\.c:8: in array\(\): takes a number of", x) for x in lines)
        assert len(lines) == 3
        done = kbridge(*words, unknown, "--allow", "stack-unknown", env=env)
        assert done.returncode == 0
        assert not said(done.stderr)

        done = kbridge(*words, large, env=env)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        error, hint = said(done.stderr)
        assert re.search(
            r"large\.c:6: large\(\) takes 11\d\d\d bytes of the kernel stack, of which a kmod has "
            r"10240: large\(\) 5\d\d\d \(.*large\.c:6\) -> inner\(\) 60\d\d \(.*large\.c:5\) "
            r"\(class stack\)$",
            error,
        )
        assert "kmalloc()" in hint
        for allowed in (["--stack-limit", "12000"], ["--allow", "stack"]):
            done = kbridge(*words, large, *allowed, env=env)
            assert done.returncode == 0, done.stderr
            assert not said(done.stderr)


def scons(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "SCons", "-Q", "-C", ROOT, f"out={folder}", "shared=1"]
    return subprocess.run([*command, *words], capture_output=True, text=True, check=False)


def test_scons(tmp_path: Path) -> None:
    source = tmp_path / "large.c"
    source.write_text(LARGE)
    done = scons(tmp_path / "out", f"kmod={source}")
    assert done.returncode == 2
    assert "large() takes 11" in done.stderr
    done = scons(tmp_path / "out", f"kmod={source}", "stack_limit=12000")
    assert done.returncode == 0, done.stderr
    assert not said(done.stderr)
    done = scons(tmp_path / "out", f"kmod={source}", "stack_limit=8000")  # it is judged again
    assert "of which a kmod has 8000" in done.stderr
    done = scons(tmp_path / "out", f"kmod={source}", "allow=stack")
    assert done.returncode == 0, done.stderr
    done = scons(tmp_path / "out", f"kmod={source}", "stack_limit=much")
    assert done.returncode == 2
    assert "stack_limit=much: not a whole number above 0" in done.stderr


def test_inspect_has_a_line_of_each_gate(kbridge: Kbridge, tmp_path: Path) -> None:
    source = tmp_path / "unknown.c"
    source.write_text(UNKNOWN + "int through(int (*f)(void)) { return f() + 1; }\n")
    out = tmp_path / "it.so"
    done = kbridge("build", "--shared", "--kmod", source, "-o", out, "--allow", "stack-unknown")
    assert done.returncode == 0, done.stderr
    text = kbridge("inspect", out).stdout
    assert re.search(r"walk +0 stack words +\d+ bytes of stack; not known: recursion of walk", text)
    assert re.search(
        r"through +0 stack words +\d+ bytes of stack; not known: 1 indirect call", text
    )
    gates = json.loads(kbridge("inspect", "--json", out).stdout)["image"]["gates"]
    found = {gate["name"]: gate["stack"] for gate in gates}
    assert found["walk"]["recursion"] == [["walk"]]
    assert found["array"]["grows"] == ["array"]
    assert found["through"] == {
        "bytes": found["through"]["bytes"],
        "recursion": [],
        "grows": [],
        "indirect": 1,
        "kernel": None,
    }


def joined(kernel: KernelTarget, kmods: Sequence[Path], code: str, folder: Path) -> Path:
    """The object that a build packs."""
    request = build.BuildRequest([], kmods, folder / "it.so", shared=True, code=code)
    flags = build.kernel_flags(request, kernel)
    folder.mkdir()
    run = build._Run(request, flags, folder, build.kmod_sources(request, kernel, flags))
    return run.joined()


def orc(image: pack.Image) -> list[tuple[int, int]]:
    """(place, bytes below the return address) from objtool's table, -1 where it says otherwise."""
    places = {place.name: place for place in image.places if place.kind == "i"}
    table, entries = places[".orc_unwind_ip"].offset, places[".orc_unwind"].offset
    rows = []
    for number in range(places[".orc_unwind_ip"].size // 4):
        at = table + 4 * number
        (distance,) = struct.unpack_from("<i", image.content, at)
        used, _, registers = struct.unpack_from("<hhH", image.content, entries + 6 * number)
        rows.append((at + distance, used - 8 if registers & 15 == _ORC_SP else -1))
    return sorted(rows)


KMODS = ["finish_kmod.c", "spine_kmod.c", "load_kmod.c"]


@pytest.mark.parametrize(("code", "compiler", "most"), CASES)
def test_every_instruction_is_where_objtool_says(
    kernels: list[KernelTarget],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: str,
    compiler: str,
    most: int | None,
) -> None:
    for name, value in COMPILERS[compiler].items():
        monkeypatch.setenv(name, value)
    compared = 0
    for kernel in kernels[::-1][:most]:
        for kmod in KMODS:
            source = ROOT / "tests/vm/programs" / kmod
            folder = tmp_path / f"{kernel.release}-{source.stem}"
            image = pack.pack(joined(kernel, [source], code, folder))
            rows = orc(image)
            starts = [start for start, _ in rows]
            walker = stackwalk._Walker(stack.code_of(image))
            for start in walker.nodes:
                frame = walker.walk(start)
                for at, used in walker.seen.items():
                    known = rows[bisect.bisect_right(starts, at) - 1][1]
                    if known >= 0:
                        compared += 1
                        assert used == known, f"{kmod} {frame.name}+{at - start:#x}"
    assert compared > 1000


def test_what_is_here_has_nothing_to_warn_of(
    kbridge: Kbridge, kernels: list[KernelTarget], tmp_path: Path
) -> None:
    for name in ("cr3", "fd_info", "ksys_write"):
        source = ROOT / f"samples/{name}/{name}_kmod.c"
        words = ["build", "--shared", "--kmod", source, "-o", tmp_path / "it.so"]
        done = kbridge(*words, "--kernel", kernels[-1].release)
        assert done.returncode == 0, done.stderr
        assert not said(done.stderr)
