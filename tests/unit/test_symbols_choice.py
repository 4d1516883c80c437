# SPDX-License-Identifier: GPL-2.0-only
"""Choosing one of several symbols of a name, by address and by source file."""

from __future__ import annotations

from pathlib import Path

import pytest

from kbridge import proc
from kbridge.errors import KbridgeError
from kbridge.symbols import choice, files
from kbridge.symbols.table import AmbiguousSymbol, Symbol, SymbolTable

TEXT = 0xFFFFFFFF81000000
TABLE = SymbolTable(
    [
        Symbol(TEXT, "T", "_text"),
        Symbol(TEXT + 0x100, "t", "show"),
        Symbol(TEXT + 0x200, "t", "show"),
        Symbol(TEXT + 0x300, "t", "show"),
        Symbol(TEXT + 0x400, "d", "state"),
    ],
    "6.1.0-test",
    "",
    "a test",
)


@pytest.fixture(scope="module")
def vmlinux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ELF file with a symbol table such as a vmlinux has."""
    tmp_path, sources = tmp_path_factory.mktemp("vmlinux"), []
    for number, name in enumerate(("fs/a.c", "mm/b.c", "mm/a.c"), 1):
        source = tmp_path / name
        source.parent.mkdir(exist_ok=True)
        source.write_text(
            f'__attribute__((section(".show{number}"), used)) static void show(void) {{}}\n'
        )
        sources.append(source)
    out = tmp_path / "vmlinux"
    places = [f"-Wl,--section-start=.show{n}={TEXT + 0x100 * n:#x}" for n in (1, 2, 3)]
    flags = [
        "-nostdlib",
        "-static",
        "-fno-pie",
        "-mcmodel=kernel",
        "-Wl,--entry=0",
        "-Wl,--build-id=none",
    ]
    flags += [f"-Wl,-Ttext={TEXT + 0x1000:#x}", "-fno-asynchronous-unwind-tables"]
    proc.run(["gcc", *flags, *places, *sources, "-o", out])
    return out


def test_by_address() -> None:
    chosen = choice.choose(TABLE, [f"show={TEXT + 0x200:#x}"], None)
    assert chosen.resolve("show").address == TEXT + 0x200
    assert [one.address for one in chosen.resolvable() if one.name == "show"] == [TEXT + 0x200]
    assert chosen.ambiguous() == []
    with pytest.raises(AmbiguousSymbol):
        TABLE.resolve("show")


def test_by_file(vmlinux: Path) -> None:
    assert files.has_symbols(vmlinux)
    for words in ("show@b.c", "show@mm/b.c"):
        chosen = choice.choose(TABLE, [words], vmlinux)
        assert chosen.resolve("show").address == TEXT + 0x200


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("show", "is not a choice"),
        ("show=", "is not a choice"),
        ("show=zz", "is not a choice"),
        ("=12", "is not a choice"),
        ("shoe=12", "has no symbol shoe"),
        ("show=12", "has no show at 0x12"),
        ("show@a.c", "has 2 definitions of show in that file"),
        ("show@c.c", "has no definition of show in that file"),
    ],
)
def test_choices_that_are_none(words: str, says: str, vmlinux: Path) -> None:
    with pytest.raises(KbridgeError, match=says) as caught:
        choice.choose(TABLE, [words], vmlinux)
    assert caught.value.hint


def test_candidates_are_listed() -> None:
    with pytest.raises(KbridgeError) as caught:
        choice.choose(TABLE, ["show=ffffffff81000104"], None)
    for number in (1, 2, 3):
        assert f"{TEXT + 0x100 * number:016x} t" in (caught.value.hint or "")


def test_without_a_vmlinux_there_are_no_files() -> None:
    with pytest.raises(KbridgeError, match="which source files") as caught:
        choice.choose(TABLE, ["show@a.c"], None)
    assert "--symbol show=ADDRESS" in (caught.value.hint or "")


def test_a_vmlinux_without_symbols_is_passed_over(vmlinux: Path, tmp_path: Path) -> None:
    """As in Debian's header packages, whose vmlinux has only types."""
    assert files.vmlinux_of("0.0-none", vmlinux.parent) == vmlinux
    proc.run(["strip", "-o", tmp_path / "vmlinux", vmlinux])
    assert files.vmlinux_of("0.0-none", tmp_path) is None
    assert files.vmlinux_of("0.0-none") is None


def test_a_name_is_chosen_once() -> None:
    words = [f"show={TEXT + 0x100:x}", f"show={TEXT + 0x200:x}"]
    with pytest.raises(KbridgeError, match="show is chosen twice"):
        choice.choose(TABLE, words, None)


def test_damaged_vmlinux(tmp_path: Path) -> None:
    (tmp_path / "vmlinux").write_bytes(b"\x7fELF" + bytes(100))
    assert not files.has_symbols(tmp_path / "vmlinux")
    with pytest.raises(KbridgeError, match="cannot read its symbols"):
        choice.choose(TABLE, ["show@a.c"], tmp_path / "vmlinux")
