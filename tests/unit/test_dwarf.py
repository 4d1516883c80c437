# SPDX-License-Identifier: GPL-2.0-only
"""Debug sections are relocated as pyelftools, slowly, does it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from kbridge import dwarf

SOURCE = """
struct pair { long a; char *b; } p;
static int local(int x) { return x + 1; }
int f(struct pair *q, int x) { return local(x) + q->a; }
int __attribute__((section(".text.other"))) g(void) { return f(&p, 2); }
"""


@pytest.mark.parametrize("flags", [["-gdwarf-5"], ["-gdwarf-4"], ["-gdwarf-5", "-gz"], ["-g0"]])
def test_the_same_bytes(tmp_path: Path, flags: list[str]) -> None:
    (tmp_path / "a.c").write_text(SOURCE)
    command = ["gcc", "-O1", *flags, "-ffunction-sections", "-c", "a.c"]
    subprocess.run(command, cwd=tmp_path, check=True)
    with (tmp_path / "a.o").open("rb") as first, (tmp_path / "a.o").open("rb") as second:
        mine = dwarf.information(ELFFile(first))
        elf = ELFFile(second)
        assert (mine is None) == (flags == ["-g0"])
        theirs = elf.get_dwarf_info() if mine else None
        compared = 0
        for name, section in vars(theirs).items() if theirs else ():
            if name.startswith("debug_") and section is not None:
                assert getattr(mine, name).stream.getvalue() == section.stream.getvalue()
                compared += 1
        assert compared >= 5 or flags == ["-g0"]


def test_a_file_is_parsed_once(tmp_path: Path) -> None:
    (tmp_path / "a.c").write_text(SOURCE)
    file = tmp_path / "a.o"

    def opened() -> object:
        with file.open("rb") as stream:
            return dwarf.information(ELFFile(stream))

    command = ["gcc", "-g", "-c", "a.c"]
    subprocess.run(command, cwd=tmp_path, check=True)
    first = opened()
    assert opened() is first
    subprocess.run(command, cwd=tmp_path, check=True)  # the same, but made again
    assert opened() is not first
