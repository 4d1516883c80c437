# SPDX-License-Identifier: GPL-2.0-only
"""The judge of slots finds what is wrong: a name that went to the other side, or nowhere."""

from __future__ import annotations

import pytest
import slots

KALLSYMS = """\
ffffffff81000100 T memcpy
ffffffff81000200 T strlen
ffffffff81000300 t strlen
ffffffff81000400 t twice
ffffffff81000500 t twice
0000000000000040 A pcpu_hot
ffffffffc0000000 t memcpy	[ext4]
"""
OBJECTS = """\
object program 1000 2000
object /lib/libc.so.6 8000 9000
object /run/kbridge/libkernel.so a000 b000
"""
RIGHT = """\
slot program 1 memcpy LINUX_KERNEL weak ffffffff81000100 0
slot program 1 pcpu_hot LINUX_KERNEL weak 48 8
slot program 7 strlen GLIBC_2.2.5 strong 8100 0
slot program 6 __gmon_start__ - weak 0 0
slot program 6 stdout GLIBC_2.2.5 strong 8200 0
kernel data strlen ffffffff81000200
address memcpy 8300
lookup memcpy 8300
"""


def complaints(*lines: str, own: dict[str, str] | None = None) -> list[str]:
    text = "before\n" + OBJECTS + "".join(f"{line}\n" for line in lines)
    judge = slots.Judge(slots.kallsyms(KALLSYMS), own or {})
    # as names.c prints it, with what was said once between the pictures
    said = text + "after\n" + OBJECTS
    return judge.complaints(slots.read(said))


def test_nothing_is_wrong() -> None:
    assert not complaints(*RIGHT.splitlines())


def test_names_of_several_meanings_are_in_no_table() -> None:
    table = slots.kallsyms(KALLSYMS)
    assert set(table) == {"memcpy", "strlen", "pcpu_hot"}
    assert table["strlen"] == 0xFFFFFFFF81000200


@pytest.mark.parametrize(
    "line",
    [
        "slot program 1 memcpy LINUX_KERNEL weak 8300 0",
        "slot program 1 memcpy LINUX_KERNEL weak 0 0",
        "slot program 1 memcpy LINUX_KERNEL weak ffffffff81000200 0",
        "slot program 1 twice LINUX_KERNEL weak ffffffff81000400 0",
        "slot program 7 strlen GLIBC_2.2.5 strong ffffffff81000200 0",
        "slot program 7 strlen - strong a100 0",
        "slot program 6 strlen GLIBC_2.2.5 strong 1100 0",
        "slot program 6 strlen GLIBC_2.2.5 strong 0 0",
        "slot program 6 stdout GLIBC_2.2.5 strong 5000 0",
        "slot libc.so.6 1 stdout - strong ffffffff81000200 0",
        "kernel code memcpy 8300",
        "address memcpy 1300",
        "lookup memcpy ffffffff81000100",
        "FAIL line 1",
    ],
)
def test_this_is_wrong(line: str) -> None:
    assert len(complaints(line)) == 1


def test_an_apps_own_function_stands_in_for_libcs() -> None:
    line = "slot libc.so.6 6 memcpy - strong 1300 0"
    assert complaints(line)
    assert not complaints(line, own={"memcpy": slots.PROGRAM})
