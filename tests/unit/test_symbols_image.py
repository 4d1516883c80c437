# SPDX-License-Identifier: GPL-2.0-only
"""kallsyms tables made here, as scripts/kallsyms.c makes them, decode to what went in."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import re
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kbridge import paths
from kbridge.errors import KbridgeError
from kbridge.symbols import image, tables
from kbridge.symbols.table import Symbol

BASE = 0xFFFFFFFF81000000
PER_CPU_SIZE = 0x30000
START = 0x1000  # file offset of the kernel's segment
BUILD_ID = bytes(range(20))
BANNER = b"Linux version 6.9.0-test (someone@somewhere) (gcc 12.2.0) #1 SMP\n\0"
LAYOUTS = ("6.1", "6.2", "6.4", "6.15", "7.0")


def some_symbols(seed: int, count: int, *, per_cpu: bool) -> list[Symbol]:
    source = random.Random(seed)
    words = ["alloc", "free", "page_", "__x64_sys_", "irq", "7", ".cold", "$", "a" * 140, "Q"]
    first = source.randint(1, 20) if per_cpu else 0
    places = sorted(source.sample(range(0, PER_CPU_SIZE, 8), first))
    places += [BASE + place for place in sorted(source.sample(range(1 << 20), count - first))]
    return [
        Symbol(
            place,
            "A" if place < BASE else source.choice("TtDdBbRrWV"),
            "".join(source.choices(words, k=source.randint(1, 5))),
        )
        for place in places
    ]


def some_tokens(source: random.Random) -> list[bytes]:
    """Every printable character stands for itself; other codes for strings, or for nothing."""
    pieces = [b"alloc", b"_x64_", b"Tpage", b"irqirq", b"aaaa", b"sys", b""]
    return [bytes([code]) if 0x21 <= code <= 0x7E else source.choice(pieces) for code in range(256)]


def compressed(name: bytes, codes_of: re.Pattern[bytes], tokens: list[bytes]) -> bytes:
    codes = bytes(tokens.index(piece) for piece in codes_of.findall(name))
    length = len(codes)
    head = bytes([length]) if length < 0x80 else bytes([length & 0x7F | 0x80, length >> 7])
    return head + codes


def padded(table: bytes) -> bytes:
    return table + bytes(-len(table) % 8)


def encode(symbols: list[Symbol], layout: str, at: int, source: random.Random) -> bytes:
    """The tables as they stand from file offset `at` on, which is a multiple of 8."""
    tokens = some_tokens(source)
    longest_first = sorted(filter(None, set(tokens)), key=len, reverse=True)
    codes_of = re.compile(b"|".join(map(re.escape, longest_first)))
    names, markers = b"", []
    for number, one in enumerate(symbols):
        if number % 256 == 0:
            markers.append(len(names))
        names += compressed((one.type + one.name).encode(), codes_of, tokens)
    head = padded(struct.pack("<I", len(symbols))) + padded(names)
    head += padded(struct.pack(f"<{len(markers)}I", *markers))
    starts = [sum(len(token) + 1 for token in tokens[:code]) for code in range(256)]
    tail = padded(b"\0".join(tokens) + b"\0") + padded(struct.pack("<256H", *starts))
    sequences = padded(source.randbytes(3 * len(symbols)))  # kallsyms_seqs_of_names
    base = struct.pack("<Q", BASE)

    def offsets(values: list[int]) -> bytes:
        return padded(struct.pack(f"<{len(values)}I", *(value & 0xFFFFFFFF for value in values)))

    if layout == "7.0":
        place = at + len(head) + len(tail) - START + BASE
        here = [one.address - (place + 4 * i) for i, one in enumerate(symbols)]
        return head + tail + offsets(here) + sequences
    if layout == "6.15":
        return head + tail + offsets([one.address - BASE for one in symbols]) + base + sequences
    absolute = [one.address if one.type == "A" else BASE - one.address - 1 for one in symbols]
    if layout == "6.4":
        return head + tail + offsets(absolute) + base + sequences
    return offsets(absolute) + base + head + (sequences if layout == "6.2" else b"") + tail


def vmlinux(symbols: list[Symbol], layout: str, seed: int = 0) -> bytes:
    """A stripped ELF file with the program headers of a kernel."""
    source = random.Random(seed)
    notes = struct.pack("<III4s", 4, len(BUILD_ID), 3, b"GNU\0") + BUILD_ID
    content = BANNER + notes + source.randbytes(2000)
    content = padded(content) + bytes(64)
    content += encode(symbols, layout, START + len(content), source) + source.randbytes(3000)
    per_cpu = symbols[0].address < BASE
    loads = [(1, START, BASE, len(content), 0x200000)]
    loads += [(1, START, 0, 0, PER_CPU_SIZE)] if per_cpu else []
    loads += [(4, START + len(BANNER), BASE + len(BANNER), len(notes), len(notes))]
    header = b"\x7fELF\2\1\1" + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, BASE, 64, 0, 0, 64, 56, len(loads), 64, 0, 0)
    for kind, offset, address, size, memory in loads:
        place = address - 0xFFFFFFFF80000000 if address else 0  # the physical one
        header += struct.pack("<IIQQQQQQ", kind, 5, offset, address, place, size, memory, 0x1000)
    return header + bytes(START - len(header)) + content


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 1 << 30), count=st.integers(256, 600))
def test_round_trip(layout: str, seed: int, count: int) -> None:
    symbols = some_symbols(seed, count, per_cpu=layout in ("6.1", "6.2", "6.4"))
    data = vmlinux(symbols, layout, seed)
    segments = image._headers(data, "vmlinux").segments
    assert tables.decode(data, segments, "vmlinux") == symbols


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_shift_of_all_symbols_is_refused(layout: str, tmp_path: Path) -> None:
    """Of the base or of a segment: the addresses stay in order and inside the kernel."""
    symbols = some_symbols(3, 300, per_cpu=layout in ("6.1", "6.2", "6.4"))
    symbols = [one for one in symbols if one.address != BASE]
    symbols.insert(sum(one.address < BASE for one in symbols), Symbol(BASE, "T", "_text"))
    good, file = vmlinux(symbols, layout), tmp_path / "vmlinux"
    file.write_bytes(good)
    assert list(image.read(file).symbols) == symbols
    base, shifted = struct.pack("<Q", BASE), struct.pack("<Q", BASE + 0x1000)
    places = [found.start() for found in re.finditer(re.escape(base), good)]
    assert len(places) == (2 if layout == "7.0" else 3)  # entry, segment, kallsyms_relative_base
    for place in places[1:]:
        file.write_bytes(changed(good, place, shifted))
        with pytest.raises(KbridgeError, match=r"make no sense|belongs elsewhere"):
            image.read(file)


@pytest.mark.parametrize(("old", "new"), [(b"a\0b\0", b"c\0b\0"), (b"alloc", b"al\x7foc")])
def test_damaged_tokens(old: bytes, new: bytes, tmp_path: Path) -> None:
    """Names would change: a token of one character is that character, others are made of those."""
    good = vmlinux(some_symbols(1, 300, per_cpu=True), "6.4")
    start = good.index(b"0\0001\0002\0")
    place = good.index(old, start)
    (tmp_path / "vmlinux").write_bytes(changed(good, place, new))
    with pytest.raises(KbridgeError, match="no kallsyms tables"):
        image.read(tmp_path / "vmlinux")


@pytest.fixture
def kernel(tmp_path: Path) -> tuple[Path, list[Symbol]]:
    symbols = some_symbols(1, 300, per_cpu=True)
    file = tmp_path / "vmlinux"
    file.write_bytes(vmlinux(symbols, "6.4"))
    return file, symbols


def test_read(kernel: tuple[Path, list[Symbol]]) -> None:
    file, symbols = kernel
    table = image.read(file)
    assert list(table.symbols) == symbols
    assert (table.release, table.build_id) == ("6.9.0-test", BUILD_ID.hex())
    assert table.origin == str(file)


@functools.cache
def small_image() -> bytes:
    return vmlinux(some_symbols(2, 256, per_cpu=True), "6.4")


@settings(max_examples=25, deadline=None)
@given(place=st.integers(0, 64 + 3 * 56 - 1) | st.integers(0), value=st.integers(0, 255))
def test_damaged_image(tmp_path_factory: pytest.TempPathFactory, place: int, value: int) -> None:
    data = bytearray(small_image())
    data[place % len(data)] = value
    file = tmp_path_factory.getbasetemp() / "damaged"
    for content in (data, data[: place % len(data)]):
        file.write_bytes(content)
        with contextlib.suppress(KbridgeError):
            image.read(file)


def changed(data: bytes, place: int, new: bytes) -> bytes:
    return data[:place] + new + data[place + len(new) :]


def test_says_what_is_wrong(kernel: tuple[Path, list[Symbol]]) -> None:
    file, _ = kernel
    good = file.read_bytes()
    last_offset = good.rindex(struct.pack("<Q", BASE)) - 8
    for content, says in (
        (changed(good, 18, b"\xb7\0"), "EM_AARCH64"),
        (good.replace(b"Linux version", b"Other version"), "so not a kernel"),
        (good.replace(b"0\0001\0002\0", b"0\0001\0003\0"), "no kallsyms tables"),
        (changed(good, last_offset, struct.pack("<ii", -5, -(1 << 31))), "make no sense"),
        (good[:40], "ELF"),
    ):
        file.write_bytes(content)
        with pytest.raises(KbridgeError, match=says):
            image.read(file)


def test_unreadable(tmp_path: Path) -> None:
    for read in (image.read, image.cached):
        with pytest.raises(KbridgeError, match="nothing-here"):
            read(tmp_path / "nothing-here")
    with pytest.raises(KbridgeError, match="directory"):
        image.read(tmp_path)


@pytest.mark.usefixtures("temporary_cache")
def test_cached(kernel: tuple[Path, list[Symbol]], monkeypatch: pytest.MonkeyPatch) -> None:
    file, _ = kernel
    first = image.cached(file)
    (kept,) = paths.cache("symbols").iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(image, "read", None)  # nothing may call it
        assert image.cached(file) == first
    for damaged in (b"", b"garbage", kept.read_bytes()[:-1]):
        kept.write_bytes(damaged)
        assert image.cached(file) == first
    assert len(list(paths.cache("symbols").iterdir())) == 1


@pytest.mark.usefixtures("temporary_cache")
def test_cache_follows_the_image(kernel: tuple[Path, list[Symbol]]) -> None:
    file, _ = kernel
    assert image.cached(file).release == "6.9.0-test"
    file.write_bytes(file.read_bytes().replace(b"6.9.0-test", b"6.9.1-test"))
    os.utime(file, ns=(1, 1))
    assert image.cached(file).release == "6.9.1-test"
