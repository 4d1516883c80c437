# SPDX-License-Identifier: GPL-2.0-only
"""Header folders with damaged files are read as far as they make sense."""

from __future__ import annotations

from pathlib import Path

import pytest

from kbridge.kernels import headers


@pytest.mark.parametrize(
    ("crc", "value"),
    [
        ("0x12345678", 0x12345678),
        ("0x00000000", 0),
        # what int() takes and modpost does not write
        *((text, 0) for text in ("-0x1", "0x1_2", " 0x12", "12345678", "0x123456789", "\u0661")),
    ],
)
def test_crcs_are_what_modpost_writes(crc: str, value: int, tmp_path: Path) -> None:
    (tmp_path / "Module.symvers").write_text(f"{crc}\tprintk\tvmlinux\tEXPORT_SYMBOL\t\n")
    exported = headers.exports(tmp_path)
    assert exported == {"printk": headers.Export("vmlinux", False, "", value)}


def test_a_makefile_that_includes_what_no_path_can_be(tmp_path: Path) -> None:
    """A NUL in the path was a ValueError."""
    (tmp_path / "Makefile").write_text("include /usr/\0src/Makefile\n")
    assert headers.file(tmp_path, "a.h") is None
