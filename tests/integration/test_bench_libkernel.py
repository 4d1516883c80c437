# SPDX-License-Identifier: GPL-2.0-only
"""bench/libkernel.py --quick: it runs, and its page has all that it should have.  No times."""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from kbridge.kernels.target import KernelTarget

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / "bench"
SVG = "{http://www.w3.org/2000/svg}"
NUMBER = re.compile(r"[+-]?[\d.,]+(?: (?:to|s|ms|MiB|µs).*)?")


def tables(page: str) -> dict[str, list[list[str]]]:
    """The rows of the tables, by the first cell of their heads."""
    found: dict[str, list[list[str]]] = {}
    for block in re.findall(r"(?:^\|.*\|\n)+", page, re.MULTILINE):
        rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in block.splitlines()]
        found.setdefault(rows[0][0], []).extend(rows[2:])
    return found


@pytest.mark.slow
def test_quick(kernels: list[KernelTarget], tmp_path: Path) -> None:
    page, release = tmp_path / "folder/page.md", kernels[0].release
    words = ["--quick", "--kernel", release, "--markdown", page]
    done = subprocess.run(
        [sys.executable, BENCH / "libkernel.py", *words],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = tables(page.read_text())
    goals = found["goal"]
    assert len(goals) == 9
    unmeasured = [row[0] for row in goals if row[4] == "not measured"]
    assert unmeasured == ["vmlinux-to-elf / from vmlinuz"]
    assert all(row[4] in ("yes", "**no**") for row in goals if row[0] not in unmeasured)
    assert all(row[0] in done.stdout for row in goals)
    for head, rows in (("what", 5), ("stage, ms", 6), ("symbols", 2)):
        assert len(found[head]) == rows, head
        for row in found[head]:
            assert all(NUMBER.fullmatch(cell) for cell in row[1:] if cell != "-"), row
    assert {row[0] for row in found[""]} >= {"date", "processor", "GNU as, ld"}
    assert "built by kbridge, full library" in {row[0] for row in found["program"]}
    plot = ET.parse(page.with_suffix(".svg")).getroot()
    said = {element.text for element in plot.iter(f"{SVG}text")}
    assert {"symbols", "seconds", "MiB", "gen-libkernel", "slope 1: in proportion"} <= said


def test_a_wrong_option_is_a_line() -> None:
    for words, said in (
        (["--kernel", "1.2.3-none"], "1.2.3-none"),
        (["--markdown", "page.txt"], "name a file that ends in .md"),
    ):
        done = subprocess.run(
            [sys.executable, BENCH / "libkernel.py", *words],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, said in done.stderr) == (1, True), done.stderr
        assert "Traceback" not in done.stderr
