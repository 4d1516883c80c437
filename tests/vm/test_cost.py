# SPDX-License-Identifier: GPL-2.0-only
"""What gates and brackets may cost, in instructions, which QEMU counts exactly: no times."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kbridge.kernels import target

BENCH = Path(__file__).resolve().parents[2] / "bench"
sys.path.append(str(BENCH))  # last: bench/faults.py is not tests/faults

import elevation  # noqa: E402

RELEASES = [kernel.release for kernel in target.installed()] or ["none installed"]
ALL = [(release, append) for release in RELEASES for append in elevation.APPENDS]
DEFAULT = (RELEASES[-1], "")
CASES = [pytest.param(*one, marks=[] if one == DEFAULT else [pytest.mark.slow]) for one in ALL]


@pytest.mark.parametrize(("release", "append"), CASES)
def test_within_the_limits(release: str, append: str, tmp_path: Path) -> None:
    kernel = elevation.measure(release, append, tmp_path / "work")
    assert kernel.getppids("gate, in ring 3") <= elevation.GATE_LIMIT
    assert kernel.getppids("kb_elevate and kb_lower") <= elevation.PAIR_LIMIT
    for service in elevation.UNUSED:
        without = kernel.instructions[f"{service}, no module"]
        # the same but for which of its ways the scheduler or a timer's interrupt takes: some 20 of
        # 3,400, and 10 of 10,000
        near = pytest.approx(without, rel=0.01)
        assert kernel.instructions[f"{service}, module loaded"] == near
        assert kernel.instructions[f"{service}, module used before"] == near
    for service in ("page fault", "signal", "interrupt"):
        ring3 = kernel.instructions[f"{service}, in ring 3"]
        assert kernel.instructions[f"{service}, in a bracket"] < 1.08 * ring3


def test_errors_are_lines() -> None:
    done = subprocess.run(
        [sys.executable, BENCH / "elevation.py", "--kernel", "7.7.7-none"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "7.7.7-none" in done.stderr
    assert "Traceback" not in done.stderr
