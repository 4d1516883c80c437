# SPDX-License-Identifier: GPL-2.0-only
"""What is said to have changed between two kernels' types; pahole makes the BTF."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kbridge import btf, layouts
from kbridge.errors import KbridgeError
from kbridge.layouts import Layouts, Named

BASE = """
typedef unsigned int count_t;
typedef struct { int counter; } atomic_t;
typedef struct pointed handle_t;
enum colour { RED, GREEN = 7 };
struct pointed { int one; };
struct inner { long first; count_t second; };
struct task {
    struct inner inside;
    unsigned flag : 3, more : 5;
    union { atomic_t count; char name[4]; };
    struct { short left, right; } *pair;
    struct pointed *next;
    enum colour colour;
    int (*call)(struct task *self, const char *format, ...);
};
struct task example;
handle_t *handle;
void *take(struct task *one, count_t many) { return one; }
"""
Compile = Callable[..., Layouts]


@pytest.fixture
def compiled(tmp_path: Path) -> Compile:
    """The types of BASE with replacements in it."""
    made: list[Path] = []

    def types(*changes: tuple[str, str]) -> Layouts:
        text = BASE
        for before, after in changes:
            assert before in text
            text = text.replace(before, after)
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(folder)
        (folder / "a.c").write_text(text)
        for command in ("gcc -g -c -o a.o a.c", "pahole -J --btf_encode_detached a.btf a.o"):
            subprocess.run(command.split(), cwd=folder, check=True)
        data = (folder / "a.btf").read_bytes()
        btf.check(data, "a")
        return Layouts(btf.Btf(data, "a"))

    return types


TASK: list[Named] = [("struct", "task")]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("long first;", "", "struct inner changed: size 16 became 4 (member first is gone)"),
        ("count_t second;", "int second;", "member second: count_t became int"),
        ("long first;", "long other, first;", "member first moved, other is new"),
        (
            "unsigned int count_t",
            "unsigned char count_t",
            "typedef count_t changed: unsigned int became unsigned char",
        ),
        ("flag : 3, more : 5", "flag : 4, more : 4", "member flag: 3 bits became 4"),
        ("flag : 3, more : 5", "flag : 2, :1, more : 5", "member flag: 3 bits became 2"),
        ("{ int counter; }", "{ unsigned counter; }", "member counter: int became unsigned int"),
        ("char name[4]", "char name[8]", "member name: char[4] became char[8]"),
        ("short left, right", "short right, left", "member pair.left moved"),
        ("*next;", "**next;", "member next: struct pointed * became struct pointed **"),
        ("GREEN = 7", "GREEN", "enum colour changed: enumerator GREEN has another value"),
        ("RED, GREEN", "RED, BLUE, GREEN", "enum colour changed: enumerator BLUE is new"),
        ("const char *format", "char *format", "member call"),
    ],
)
def test_changes_of_a_structure(compiled: Compile, before: str, after: str, said: str) -> None:
    found = layouts.compare(compiled(), compiled((before, after)), TASK)
    assert said in found[0], found


def test_what_is_the_same(compiled: Compile) -> None:
    every: list[Named] = [*TASK, ("typedef", "handle_t"), ("enum", "colour"), ("struct", "inner")]
    assert layouts.compare(compiled(), compiled(), every) == []
    # a new declaration, and what is only pointed to, change nothing for this program
    more = compiled(("struct task example;", "struct task example; struct other { int x; } y;"))
    assert layouts.compare(compiled(), more, every) == []
    pointed = compiled(("struct pointed { int one; }", "struct pointed { long one; }"))
    assert layouts.compare(compiled(), pointed, TASK) == []
    known: list[Named] = [("struct", "pointed")]
    assert layouts.compare(compiled(), pointed, known) == [
        "struct pointed changed: size 4 became 8 (member one: int became long int)"
    ]


def test_what_only_one_has(compiled: Compile) -> None:
    renamed = compiled(("struct inner", "struct renamed"))
    inner: list[Named] = [("struct", "inner")]
    assert layouts.compare(compiled(), renamed, inner) == [
        "struct inner is not in that kernel's BTF"
    ]
    (unknown,) = layouts.compare(renamed, compiled(), inner)
    assert "the BTF of the kernel it was built for does not tell it" in unknown


def test_signatures(compiled: Compile) -> None:
    base = compiled()
    assert base.signatures("take", function=True) == [("void *", "struct task *", "count_t")]
    renamed = compiled(("struct task *one, count_t many) { return one", "struct task *two, count_t "
                        "many) { return two"))  # fmt: skip
    assert renamed.signatures("take", function=True) == base.signatures("take", function=True)
    assert base.needs("take", function=True) == {("typedef", "count_t")}
    assert base.signatures("nobody", function=True) == []


def test_a_structure_that_holds_itself_twice() -> None:
    """Two members without a name, which damage made the structure itself: 2**64 rows."""
    anonymous = btf.STRUCT << 24 | 2
    words = (1, anonymous, 16, 0, 2, 0, 0, 2, 64, 0, anonymous, 8, 0, 2, 0, 0, 2, 32)
    types = struct.pack(f"<{len(words)}I", *words)
    strings = b"\0name\0"
    head = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings))
    data = head + types + strings
    btf.check(data, "vmlinux")
    with pytest.raises(KbridgeError, match="a type has no end"):
        Layouts(btf.Btf(data, "vmlinux")).shapes(("struct", "name"))
