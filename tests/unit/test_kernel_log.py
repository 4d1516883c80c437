# SPDX-License-Identifier: GPL-2.0-only
"""What counts as a complaint in a guest's kernel messages."""

from __future__ import annotations

from pathlib import Path

from kernel_log import complaints

DUMP = """\
sysfs: cannot create duplicate filename '/class/bsg'
CPU: 0 PID: 88 Comm: it
Call Trace:
 <TASK>
 dump_stack_lvl+0x44/0x5c
 </TASK>
"""
WARNING = """\
expected words
------------[ cut here ]------------
WARNING: CPU: 1 PID: 7 at it.c:3 it+0x1/0x2
Call Trace:
 <TASK>
 it+0x1/0x2
 </TASK>
---[ end trace 0000000000000000 ]---
"""


def test_expected_ones_hide_no_others(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(f"{DUMP}all is well\n{WARNING}")
    warning = "WARNING: CPU: 1 PID: 7 at it.c:3 it+0x1/0x2"
    assert complaints(log) == ["Call Trace:", warning]
    assert complaints(log, ["duplicate filename"]) == [warning]
    assert complaints(log, ["expected words"]) == ["Call Trace:"]
    assert complaints(log, ["duplicate filename", "expected words"]) == []
