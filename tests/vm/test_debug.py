# SPDX-License-Identifier: GPL-2.0-only
"""gdb, attached to the guest, on a kmod function while it runs there."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Kbridge
from kernel_log import complaints

from kbridge import options
from kbridge.kernels import target

ROOT = Path(__file__).parents[2]
APP = ROOT / "tests/vm/programs/debugged.c"
KMOD = APP.with_name("debugged_kmod.c")
KERNELS = [kernel.release for kernel in target.installed()] or ["none installed"]
GDB = ["gdb", "-nx", "-batch", "-iex", "set pagination off"]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_a_port_that_is_none(kbridge: Kbridge) -> None:
    done = kbridge("run", "--gdb", "65536", "/bin/true")
    assert done.returncode == 125
    assert "not a TCP port" in done.stderr


def line_of(text: str) -> int:
    lines = KMOD.read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


CASES = [(release, code) for release in KERNELS for code in options.CODE_MODELS]


@pytest.mark.parametrize(
    ("release", "code"),
    [*(pytest.param(*case, marks=pytest.mark.slow) for case in CASES[:-1]), CASES[-1]],
)
def test_gdb_stops_in_a_kmod_function(
    kbridge: Kbridge, tmp_path: Path, release: str, code: str
) -> None:
    program = tmp_path / "debugged"
    how = ["-g", "--kernel", release, "--code", code]
    built = kbridge("build", APP, "--kmod", KMOD, "-o", program, *how)
    assert built.returncode == 0, built.stderr
    port, log = free_port(), tmp_path / "log"
    line = line_of("the debugger stops here")
    with subprocess.Popen(
        [sys.executable, "-m", "kbridge", "run", "--timeout", "200", "--gdb", str(port), program],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "KBRIDGE_CONSOLE_LOG": str(log)},
    ) as guest:
        assert guest.stdout is not None
        base = guest.stdout.readline().strip()
        assert re.fullmatch("0xffffffff[0-9a-f]{8}", base), base
        commands = [
            f"add-symbol-file {program}.kmod.debug -o {base}",
            f"target remote 127.0.0.1:{port}",
            f"break {KMOD.name}:{line}",
            *("continue", "bt", "info args", "info locals", "print *mine", "next"),
            *("disassemble /s inner", "set var stop = 1", "delete", "detach"),
        ]
        words = [word for command in commands for word in ("-ex", command)]
        said = subprocess.run(
            [*GDB, "-iex", "set confirm off", *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=150,
        ).stdout
        assert guest.wait(timeout=60) == 0, said
    stopped = re.search(rf"Breakpoint 1, inner \(mine=.*<record>, number=.*\) at .*:{line}\n", said)
    assert stopped, said
    number = re.search(r"^number = (\d+)$", said, re.MULTILINE)
    assert number, said
    assert f"twice = {2 * int(number[1])}\n" in said
    assert re.search(rf"= \{{pid = \d+, calls = {int(number[1]) + 1}\}}", said), said
    assert re.search(rf"#1 .* step \(number={number[1]}\) at .*{KMOD.name}:", said), said
    assert re.search(rf"^step \(number={number[1]}\) at ", said, re.MULTILINE), said
    assert re.search(r"\tmine->calls\+\+;\n +0x.* <\+\d+>:\t", said), said
    assert f"sections/.text is {base}" in log.read_text()
    assert not complaints(log)
