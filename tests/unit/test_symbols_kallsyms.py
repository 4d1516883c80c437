# SPDX-License-Identifier: GPL-2.0-only
"""Text of kallsyms form, build IDs in notes, and a kernel that hides its addresses."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbridge.errors import KbridgeError
from kbridge.symbols import kallsyms, notes, source
from kbridge.symbols.table import Symbol

names = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)
rows = st.lists(
    st.tuples(st.builds(Symbol, st.integers(0, (1 << 64) - 1), st.sampled_from("AbdtTW"), names)),
    min_size=1,
    max_size=30,
)


@given(rows, st.sampled_from(["", "\n"]))
def test_parse_round_trip(lines: list[tuple[Symbol]], end: str) -> None:
    symbols = [line[0] for line in lines]
    text = "\n".join(f"{one.address:016x} {one.type} {one.name}" for one in symbols) + end
    assert list(kallsyms.parse(text).symbols) == symbols


@given(st.text(max_size=300))
def test_any_text_parses_or_raises_our_error(text: str) -> None:
    with contextlib.suppress(KbridgeError):
        kallsyms.parse(text)


def test_modules_are_left_out_unless_asked_for() -> None:
    text = "ffffffff81000000 T _stext\nffffffffc0000000 t helper\t[ext4]\n"
    assert [one.name for one in kallsyms.parse(text).symbols] == ["_stext"]
    assert len(kallsyms.parse(text, modules=True).symbols) == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no symbols"),
        ("ffffffff81000000 T _stext\nnonsense\n", "line 2"),
        ("ffffffff81000000 T\n", "line 1"),
        ("ffffffffffffffff B The real System.map is in the linux-image-dbg package\n", "place"),
    ],
)
def test_bad_text(text: str, says: str) -> None:
    with pytest.raises(KbridgeError, match=says):
        kallsyms.parse(text, origin="System.map")


def fake_kernel(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (folder / "kallsyms").write_text(text)
    monkeypatch.setattr(kallsyms, "_KALLSYMS", folder / "kallsyms")
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
