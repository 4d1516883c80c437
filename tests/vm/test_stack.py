# SPDX-License-Identifier: GPL-2.0-only
"""The kernel stack under a gate: how much is there, and whether functions take what was said."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from conftest import Kbridge
from guest_shell import Guest, build
from kernel_log import complaints

from kbridge import options
from kbridge.kernels import target

ROOT = Path(__file__).parents[2]
APP = ROOT / "tests/vm/programs/stack.c"
KERNELS = [kernel.release for kernel in target.installed()] or ["none installed"]


def predicted(kbridge: Kbridge, program: Path) -> dict[str, int]:
    done = kbridge("inspect", "--json", program)
    assert done.returncode == 0, done.stderr
    gates = json.loads(done.stdout)["image"]["gates"]
    return {gate["name"]: gate["stack"]["bytes"] for gate in gates}


@pytest.mark.parametrize("release", KERNELS)
def test_a_function_near_the_limit_runs(kbridge: Kbridge, tmp_path: Path, release: str) -> None:
    said, programs = {}, {}
    for code in options.CODE_MODELS:
        program = build(
            kbridge, APP, APP.with_name("stack_kmod.c"), tmp_path / code, release, "--code", code
        )
        programs[code] = program
        said[code] = predicted(kbridge, program)
    log = tmp_path / "console"
    found = Guest(kbridge, release).run(programs, log)
    for code in options.CODE_MODELS:
        assert found[code].rstrip().endswith("status 0"), found[code]
        assert "FAIL" not in found[code]
        values = {word: int(number) for word, number in re.findall(r"(\w+) (-?\d+)\n", found[code])}
        deep = said[code]["deep"]
        assert 0.95 * options.STACK_LIMIT < deep <= options.STACK_LIMIT
        # the call of it has a return address; what is lowest in a frame may be alignment
        assert deep + 8 - 64 <= values["used"] <= deep + 8
        # of which a quarter of the stack is for the kernel's functions and interrupts
        assert values["left"] >= options.STACK_LIMIT + 4096
        assert 0 < values["kernel"] < 4096
    assert not complaints(log)
