# SPDX-License-Identifier: GPL-2.0-only
"""Text of kallsyms form, build IDs in notes, and a kernel that hides its addresses."""

from __future__ import annotations

import contextlib
import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbridge.errors import KbridgeError, UsageError
from kbridge.symbols import kallsyms, modules, notes, source
from kbridge.symbols.table import Symbol

names = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)
addresses = st.integers(0, 0xFFFFFFFF) | st.integers(0xFFFFFFFF80000000, 0xFFFFFFFFFFFFFFFF)
symbols_ = st.builds(Symbol, addresses, st.sampled_from("AbdtTW?"), names)
KERNEL = Symbol(0xFFFFFFFFFFFFFFFF, "T", "the_last")


def line(one: Symbol, end: str = "\n") -> str:
    return f"{one.address:016x} {one.type} {one.name}{end}"


@given(st.lists(symbols_, max_size=30), st.sampled_from(["\n", " \n", "\n\n", "\n \n"]))
def test_parse_round_trip(lines: list[Symbol], end: str) -> None:
    """With the plain end the fast way reads it, with the others the slow one."""
    symbols = [*sorted(lines), KERNEL]
    text = "".join(line(one, end) for one in symbols)
    assert list(kallsyms.parse(text.encode()).symbols) == symbols


@given(st.text(max_size=300) | st.binary(max_size=300))
def test_any_text_parses_or_raises_our_error(text: str | bytes) -> None:
    with contextlib.suppress(KbridgeError):
        kallsyms.parse(text.encode() if isinstance(text, str) else text)


MODULES = b"""ffffffff81000000 T _stext
ffffffff81000100 t helper
ffffffffc0000100 t helper\t[ext4]
ffffffffc0000200 t other\t[ext4]
ffffffffc0000000 T first\t[crc16]
ffffffffc0000300 t bpf_prog_1\t[bpf]
ffffffffc0000400 t ftrace_trampoline\t[__builtin__ftrace]
"""


def test_modules_are_left_out_unless_asked_for() -> None:
    assert [one.name for one in kallsyms.parse(MODULES).symbols] == ["_stext", "helper"]


def test_a_name_of_the_kernel_comes_before_those_of_modules() -> None:
    table = kallsyms.parse(MODULES, modules=True)
    assert [one.name for one in table.symbols] == ["_stext", "helper", "other", "first"]
    assert table.resolve("helper").address == 0xFFFFFFFF81000100


@pytest.mark.parametrize("address", ["0" * 16, "fe000000c0000100", "0000000100000000"])
def test_modules_where_none_can_be(address: str) -> None:
    """The kernel's addresses were looked at, those of modules were not: one bit off passed."""
    text = MODULES.replace(b"ffffffffc0000100", address.encode())
    with pytest.raises(
        KbridgeError, match=f"helper of the module ext4 is at {int(address, 16):#x}"
    ):
        kallsyms.of_modules(text, ["ext4"], "kallsyms")
    with pytest.raises(KbridgeError, match="where none can be"):
        kallsyms.parse(text, modules=True)
    assert len(kallsyms.parse(text).symbols) == 2


def fake_modules(folder: Path, monkeypatch: pytest.MonkeyPatch, listed: str) -> None:
    (folder / "modules").write_text(listed)
    (folder / "kallsyms").write_bytes(MODULES)
    monkeypatch.setattr(modules, "FILE", folder / "modules")
    monkeypatch.setattr(kallsyms, "FILE", folder / "kallsyms")


EXT4 = "ext4 16384 0 - Live 0xffffffffc0000000 (OE)\n"


def test_loaded_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    going = "crc16 16384 1 ext4, Unloading 0xffffffffc0000000\n"
    fake_modules(tmp_path, monkeypatch, EXT4 + going)
    table = source.read(tmp_path / "modules")
    assert [one.name for one in table.symbols] == ["helper", "other"]


@pytest.mark.parametrize(
    ("listed", "says"),
    [
        (EXT4.replace("c0000000", "c0400000"), "ext4 is not loaded now, or lies elsewhere"),
        (EXT4.replace("ext4", "xfs"), "xfs is not loaded now"),
        (EXT4 + "nonsense\n", "line 2"),
    ],
)
def test_a_list_of_modules_of_another_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: str, says: str
) -> None:
    fake_modules(tmp_path, monkeypatch, EXT4)
    (tmp_path / "saved").write_text(listed)
    with pytest.raises(KbridgeError, match=says):
        source.read(tmp_path / "saved")


def test_hidden_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_modules(tmp_path, monkeypatch, EXT4.replace("ffffffffc0000000", "0" * 16))
    with pytest.raises(KbridgeError, match="hides its modules' addresses"):
        source.read(tmp_path / "modules")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no symbols"),
        ("\n\n", "no symbols"),
        ("ffffffff81000000 T _stext\nnonsense\n", "line 2"),
        ("ffffffff81000000 T\n", "line 1"),
        ("ffffffff81000000 T _stext\nffffffff81000010 T mem", "cut off"),
        ("ffffffff81000000 T _stext\nffffffff8100\n", "line 2 is no symbol"),
        ("ffffffff81000000 T _stext\r\n", "line 1 ends in CR LF"),
        ("ffffffff81000010 T a\nffffffff81000000 T b\n", "symbol 2 lies below"),
        ("0000000000000000 A a\n0000000000000000 T b\n", "all addresses are zero"),
        ("c1000000 T _stext\n", "32-bit"),
        ("ffff800008000000 T _stext\n", "not an x86-64 kernel"),
        ("0000000000100000 T _stext\n", "not an x86-64 kernel"),
        (f"ffffffff81000000 T {'x' * 512}\n", "a name of 512 characters"),
        ("ffffffff81000000 T naïve\n", "line 1"),
        ("ffffffffffffffff B The real System.map is in the linux-image-dbg package\n", "place"),
    ],
)
def test_bad_text(text: str, says: str) -> None:
    with pytest.raises(KbridgeError, match=says) as caught:
        kallsyms.parse(text.encode(), origin="System.map")
    assert caught.value.hint


def test_a_name_of_the_greatest_length() -> None:
    text = f"ffffffff81000000 T {'x' * 511}\n"
    assert len(kallsyms.parse(text.encode()).symbols[0].name) == 511


def fake_kernel(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (folder / "kallsyms").write_text(text)
    monkeypatch.setattr(kallsyms, "FILE", folder / "kallsyms")
    monkeypatch.setattr(kallsyms, "_NOTES", folder / "notes")


def test_hidden_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_kernel(tmp_path, monkeypatch, "0000000000000000 T _stext\n0000000000000000 A x\n")
    with pytest.raises(KbridgeError, match="hides its addresses") as caught:
        kallsyms.running()
    assert "kptr_restrict" in (caught.value.hint or "")


def test_no_kallsyms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_kernel(tmp_path, monkeypatch, "")
    (tmp_path / "kallsyms").unlink()
    with pytest.raises(KbridgeError, match="cannot read"):
        kallsyms.running()


def note(name: bytes, kind: int, content: bytes) -> bytes:
    padded = [word + bytes(-len(word) % 4) for word in (name, content)]
    return struct.pack("<III", len(name), len(content), kind) + b"".join(padded)


def test_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_kernel(tmp_path, monkeypatch, "ffffffff81000000 T _stext\n")
    assert kallsyms.running().build_id == ""
    (tmp_path / "notes").write_bytes(note(b"Xen\0", 3, b"abc") + note(b"GNU\0", 3, b"\xab" * 20))
    assert kallsyms.running().build_id == "ab" * 20


@given(st.binary(max_size=100))
def test_any_notes(data: bytes) -> None:
    notes.build_id(data)


@given(st.binary(min_size=1, max_size=32), st.integers(0, 60))
def test_cut_off_notes(content: bytes, length: int) -> None:
    whole = note(b"Linux\0", 0x101, b"\0") + note(b"GNU\0", 3, content)
    assert notes.build_id(whole) == content.hex()
    assert notes.build_id(whole[:length]) in ("", content.hex())


def test_a_named_file_is_told_by_its_content(tmp_path: Path) -> None:
    file = tmp_path / "anything"
    file.write_text("ffffffff81000000 T _stext\nffffffff81000010 T memcpy\n")
    table = source.read(file, "6.1.0-test")
    assert [one.name for one in table.symbols] == ["_stext", "memcpy"]
    assert table.release == "6.1.0-test"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no symbols"),
        (b"hello\n", "line 1 is no symbol"),
        (b"0000000000000000 T _stext\n", "all addresses are zero"),
        (b"\x7fELF\0\0", "damaged ELF"),
        (b"\0" * 9000, "anything"),
    ],
)
def test_files_that_are_no_source_of_symbols(
    tmp_path: Path, temporary_cache: Path, content: bytes, says: str
) -> None:
    assert temporary_cache
    file = tmp_path / "anything"
    file.write_bytes(content)
    with pytest.raises(KbridgeError, match=says):
        source.read(file)
    with pytest.raises(KbridgeError, match="No such file"):
        source.read(tmp_path / "none")


def test_pipes_are_not_read(tmp_path: Path) -> None:
    """What tells the kind of a file was lost from a pipe: the first 256 symbols of 32 bytes."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(UsageError, match="not a regular file"):
            source.read(path)
