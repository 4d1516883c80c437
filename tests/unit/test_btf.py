# SPDX-License-Identifier: GPL-2.0-only
"""The BTF reader on small objects: pahole writes them, and damage does not reach libbpf."""

from __future__ import annotations

import random
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from kbridge import btf, layouts
from kbridge.errors import KbridgeError

SOURCE = """
typedef struct { int counter; } atomic_t;
enum colour { RED, GREEN = 7, BLUE = -1 };
struct inner { long first; short second; };
struct outer {
    struct inner inside;
    unsigned flag : 3, more : 5;
    union { atomic_t count; char name[4]; };
    struct outer *next;
    int (*call)(struct outer *self, const char *format, ...);
    enum colour colour;
} example;
void *take(struct outer *one, void (*done)(int), unsigned long long words[4]) { return one; }
const char *nothing(void) { return 0; }
"""
# loads what check() let pass, and asks for everything
EXERCISE = """
import sys
from kbridge import btf, layouts
from kbridge.errors import KbridgeError
data = open(sys.argv[1], 'rb').read()
size = int(sys.argv[2])
for at in range(0, len(data), size):
    one = data[at:at + size]
    try:
        btf.check(one, 'x')
        types = btf.Btf(one, 'x')
    except KbridgeError:
        continue
    for number in range(1, types.count):
        for ask in (types.type, types.declaration, types.unnamed):
            try:
                ask(number)
            except KbridgeError:
                pass
        kind = types.type(number)
        if kind.kind in (btf.STRUCT, btf.UNION):
            types.members(kind)
        if kind.kind in (btf.ENUM, btf.ENUM64):
            types.enumerators(kind)
    known = layouts.Layouts(types)
    for kind, name in list(types._index):
        for word, kinds in {**layouts.KINDS, 'typedef': (btf.TYPEDEF,)}.items():
            try:
                known.signatures(name, function=True)
                known.shapes((word, name)) if kind in kinds else None
            except KbridgeError:
                pass
print('done')
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("btf")
    (folder / "one.c").write_text(SOURCE)
    subprocess.run(["gcc", "-g", "-c", "-o", "one.o", "one.c"], cwd=folder, check=True)
    command = ["pahole", "-J", "--btf_encode_detached", "one.btf", "one.o"]
    subprocess.run(command, cwd=folder, check=True)
    return (folder / "one.btf").read_bytes()


def test_declarations(data: bytes) -> None:
    btf.check(data, "one")
    types = btf.Btf(data, "one")
    found = types.prototype(types.find("take", btf.FUNC))
    # as parameters arrays are pointers
    assert found == (
        "void *take(struct outer *one, void (*done)(int), long long unsigned int *words)"
    )
    assert types.prototype(types.find("nothing", btf.FUNC)) == "const char *nothing(void)"
    assert types.find("nobody", btf.FUNC) == types.find("take", btf.STRUCT) == 0


def test_members_are_those_that_pahole_prints(data: bytes, tmp_path: Path) -> None:
    types = btf.Btf(data, "one")
    outer = types.type(types.find("outer", btf.STRUCT))
    members = types.members(outer)
    named = {one.name: one for one in members}
    file = tmp_path / "one.btf"
    file.write_bytes(data)
    shown = subprocess.run(
        ["bpftool", "btf", "dump", "file", file], capture_output=True, text=True, check=True
    ).stdout
    block = re.search(r"STRUCT 'outer' size=(\d+) .*\n((?:\t.*\n)+)", shown)
    assert block
    assert outer.link == int(block[1])
    rows = re.findall(r"'(.*)' type_id=(\d+) bits_offset=(\d+)(?: bitfield_size=(\d+))?", block[2])
    assert len(rows) == len(members) == 7
    for one, (name, kind, offset, bits) in zip(members, rows, strict=True):
        assert one.name == name.replace("(anon)", "")
        assert (one.type, one.bit_offset, one.bits) == (int(kind), int(offset), int(bits or 0))
    assert (named["flag"].bits, named["more"].bits) == (3, 5)
    assert types.declaration(named["next"].type, "next") == "struct outer *next"
    called = types.declaration(named["call"].type, "call")
    assert called == "int (*call)(struct outer *, const char *, ...)"
    assert types.declaration(named[""].type) == "union { ... }"
    colours = types.enumerators(types.type(types.find("colour", btf.ENUM)))
    assert colours == [("RED", 0), ("GREEN", 7), ("BLUE", -1)]


def test_all_of_a_name(data: bytes) -> None:
    types = btf.Btf(data, "one")
    (found,) = types.all_named("outer", btf.STRUCT)
    assert found == types.find("outer", btf.STRUCT)
    assert types.all_named("nobody", btf.STRUCT) == []


def header(data: bytes, **words: int) -> bytes:
    names = ("magic", "version", "flags", "size", "types_at", "types", "strings_at", "strings")
    values = dict(zip(names, struct.unpack_from("<HBBIIIII", data), strict=True))
    return struct.pack("<HBBIIIII", *{**values, **words}.values()) + data[24:]


def test_damage_is_named(data: bytes) -> None:
    for bad, what in (
        (b"", "0 bytes"),
        (header(data, magic=1), "magic 0x1"),
        (header(data, version=9), "version 9"),
        (header(data, types=1 << 30), "do not fit"),
        (header(data, strings=1 << 30), "do not fit"),
        (header(data, types_at=2), "do not fit|not aligned"),
        (header(data, size=8), "do not fit"),
        (data[:-1] + b"x", "no end"),
    ):
        with pytest.raises(KbridgeError, match=what) as caught:
            btf.check(bad, "vmlinux")
        assert caught.value.message.startswith("vmlinux: its BTF is damaged")
        assert caught.value.hint


def pack(*words: int, strings: bytes = b"\0name\0") -> bytes:
    """BTF of these words."""
    types = struct.pack(f"<{len(words)}I", *words)
    size = len(types)
    return struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, size, size, len(strings)) + types + strings


def test_what_leads_nowhere() -> None:
    pointer, struct_, proto = btf.PTR << 24, btf.STRUCT << 24 | 1, btf.FUNC_PROTO << 24 | 1
    for words in (
        (0, pointer, 2),  # of a type that is not there
        (99, btf.TYPEDEF << 24, 0),  # a name that is not there
        (1, struct_, 8, 1, 7, 0),
        (1, struct_, 8, 99, 1, 0),
        (0, btf.ARRAY << 24, 0, 9, 0, 1),
        (0, 31 << 24, 0),  # no such kind
        (0, struct_, 8),  # cut off
    ):
        with pytest.raises(KbridgeError, match="damaged"):
            btf.check(pack(*words), "x")
    for words in ((0, pointer, 1), (0, proto, 0, 0, 2, 0, pointer, 1)):
        looped = pack(*words)
        btf.check(looped, "x")
        with pytest.raises(KbridgeError, match="has no end"):
            btf.Btf(looped, "x").declaration(1, "loop")


def test_without_libbpf_its_package_is_named(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(btf, "_LIBRARY", "libbpf.so.none")
    btf._libbpf.cache_clear()
    try:
        with pytest.raises(KbridgeError, match=r"libbpf\.so\.none is not there") as caught:
            btf.Btf(data, "one")
    finally:
        btf._libbpf.cache_clear()
    assert caught.value.hint == "install it with: apt-get install libbpf1"


def test_a_structure_without_end() -> None:
    # pointers to structures without names, each in the one before
    count = 3000
    words: list[int] = [1, btf.STRUCT << 24 | 1, 8, 1, 2, 0]
    for number in range(2, 2 * count, 2):
        words += [0, btf.PTR << 24, number + 1, 0, btf.STRUCT << 24 | 1, 8, 1, number + 2, 0]
    words += [0, btf.PTR << 24, 1]
    deep = pack(*words)
    btf.check(deep, "x")
    with pytest.raises(KbridgeError, match=r"type \d+ has no end"):
        layouts.Layouts(btf.Btf(deep, "x")).shapes(("struct", "name"))


def mutated(data: bytes, count: int) -> bytes:
    chance = random.Random(count)
    found = bytearray()
    for _ in range(count):
        one = bytearray(data)
        for _ in range(chance.choice((1, 1, 2, 8))):
            place = (
                chance.randrange(24, len(one)) if chance.random() < 0.9 else chance.randrange(24)
            )
            one[place] = chance.choice((0, 1, 2, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        found += one
    return bytes(found)


@pytest.mark.parametrize("count", [400, pytest.param(20_000, marks=pytest.mark.slow)])
def test_no_damage_crashes_libbpf(data: bytes, count: int, tmp_path: Path) -> None:
    file = tmp_path / "mutated"
    file.write_bytes(mutated(data, count))
    command = [sys.executable, "-c", EXERCISE, str(file), str(len(data))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr[-2000:]
