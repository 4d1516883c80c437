# SPDX-License-Identifier: GPL-2.0-only
"""The two forms of libkernel.so as readelf and pyelftools see them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given, settings
from hypothesis import strategies as st

from kbridge import elfwrite, libkernel, paths, proc
from kbridge.errors import KbridgeError
from kbridge.symbols.table import Symbol, SymbolTable

TEXT = 0xFFFFFFFF81000000
SHN_ABS = "SHN_ABS"


def table(rows: Sequence[tuple[int, str, str]]) -> SymbolTable:
    return SymbolTable([Symbol(*row) for row in rows], "6.1.0-test", "ab" * 20, "a test")


KERNEL = table(
    [
        (0x1FB80, "A", "pcpu_hot"),
        (TEXT, "T", "_stext"),
        (TEXT + 0x100, "t", "show"),
        (TEXT + 0x200, "t", "show"),
        (TEXT + 0x300, "W", "memcpy"),
        (TEXT + 0x300, "T", "__memcpy"),
        (TEXT + 0x400, "d", "state.12"),
        (TEXT + 0x500, "D", "init_task"),
    ]
)
NAMES = {"_stext", "memcpy", "__memcpy", "state.12", "init_task", "pcpu_hot", "const_pcpu_hot"}


def dynamic_symbols(file: Path) -> dict[str, tuple[int, str, str]]:
    """Name -> (value, type, section), as pyelftools reads them."""
    with file.open("rb") as stream:
        symbols = list(ELFFile(stream).get_section_by_name(".dynsym").iter_symbols())[1:]
    return {one.name: (one["st_value"], one["st_info"]["type"], one["st_shndx"]) for one in symbols}


def test_runtime_has_the_addresses(tmp_path: Path) -> None:
    libkernel.write_runtime(KERNEL, tmp_path / "lib.so")
    found = dynamic_symbols(tmp_path / "lib.so")
    assert set(found) == NAMES  # show has two meanings
    assert found["memcpy"] == (TEXT + 0x300, "STT_FUNC", SHN_ABS)
    assert found["init_task"] == (TEXT + 0x500, "STT_OBJECT", SHN_ABS)
    assert found["const_pcpu_hot"] == (0x1FB80, "STT_OBJECT", SHN_ABS)


def test_slide_moves_all_but_per_cpu(tmp_path: Path) -> None:
    libkernel.write_runtime(KERNEL, tmp_path / "lib.so", slide=0x2A00000)
    found = dynamic_symbols(tmp_path / "lib.so")
    assert found["_stext"][0] == TEXT + 0x2A00000
    assert found["pcpu_hot"][0] == 0x1FB80


def test_too_large_slide_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(KbridgeError, match="out of memory"):
        libkernel.write_runtime(KERNEL, tmp_path / "lib.so", slide=1 << 31)
    assert not list(tmp_path.iterdir())


def test_slide_can_be_patched_in_by_the_section_headers(tmp_path: Path) -> None:
    """What the C program does that slides the file where it is loaded."""
    plain, slid = tmp_path / "plain.so", tmp_path / "slid.so"
    libkernel.write_runtime(KERNEL, plain)
    libkernel.write_runtime(KERNEL, slid, slide=0x1000000)
    data = bytearray(plain.read_bytes())
    (headers,) = struct.unpack_from("<Q", data, 40)
    (count,) = struct.unpack_from("<H", data, 60)
    for header in range(headers, headers + 64 * count, 64):
        kind, offset, size = struct.unpack_from("<4xI16xQQ", data, header)
        for symbol in range(offset, offset + size, 24) if kind == 11 else ():
            (value,) = struct.unpack_from("<Q", data, symbol + 8)
            if value >= 0xFFFFFFFF80000000:
                struct.pack_into("<Q", data, symbol + 8, value + 0x1000000)
    at = data.index(b"a test\0") - 8  # the slide in the note, before the source
    assert data[at : at + 8] == bytes(8)
    struct.pack_into("<Q", data, at, 0x1000000)
    assert bytes(data) == slid.read_bytes()


def test_stub(tmp_path: Path) -> None:
    file = tmp_path / "stub.so"
    libkernel.write_stub({"memcpy": True, "init_task": False}, file, release="6", build_id="ab")
    listing = proc.run(["readelf", "-W", "--dyn-syms", "-d", file]).stdout
    assert "FUNC    GLOBAL PROTECTED    7 memcpy@LINUX_KERNEL\n" in listing
    assert "OBJECT  GLOBAL PROTECTED    7 init_task@LINUX_KERNEL\n" in listing
    assert "soname: [libkernel.so]" in listing
    assert "ABS" not in listing


def files(folder: Path) -> list[Path]:
    made = [folder / "run.so", folder / "stub.so", folder / "empty.so"]
    libkernel.write_runtime(KERNEL, made[0])
    for file, names in zip(made[1:], ({"memcpy": True}, {}), strict=True):
        libkernel.write_stub(names, file, release=KERNEL.release, build_id=KERNEL.build_id)
    return made


def test_segments_and_note(tmp_path: Path) -> None:
    for file in files(tmp_path):
        with file.open("rb") as stream:
            elf = ELFFile(stream)
            segments = {one["p_type"]: one for one in elf.iter_segments()}
            assert not any(one["p_flags"] & 1 for one in elf.iter_segments())
            assert "PT_GNU_STACK" in segments
            kernel, symbols = segments["PT_NOTE"].iter_notes()
        assert kernel["n_name"] == symbols["n_name"] == "kbridge"
        assert kernel["n_descdata"] == b"6.1.0-test\0" + b"ab" * 20 + b"\0"
        source = b"a test\0" if file.name == "run.so" else b"\0"
        assert symbols["n_descdata"] == bytes(8) + source


def test_binutils_read_it_without_complaint(tmp_path: Path) -> None:
    for file in files(tmp_path):
        assert proc.run(["readelf", "-aW", file]).stderr == ""
        assert proc.run(["objdump", "-p", "-T", file]).stderr == ""
        versions = proc.run(["readelf", "-VW", file]).stdout
        assert "Index: 3  Cnt: 1  Name: LINUX_KERNEL" in versions


def test_the_same_table_gives_the_same_bytes(tmp_path: Path) -> None:
    libkernel.write_runtime(KERNEL, tmp_path / "a.so")
    libkernel.write_runtime(KERNEL, tmp_path / "b.so")
    assert (tmp_path / "a.so").read_bytes() == (tmp_path / "b.so").read_bytes()


@pytest.mark.parametrize("name", ["", "a b", "memcpy@GLIBC", "a\0b", "naïve"])
def test_names_that_elf_tools_cannot_take(tmp_path: Path, name: str) -> None:
    with pytest.raises(KbridgeError, match="cannot be the name"):
        libkernel.write_stub({name: True}, tmp_path / "stub.so", release="6", build_id="")
    assert not list(tmp_path.iterdir())


def test_a_wrong_byte_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = elfwrite.shared_object
    good = struct.pack("<Q", TEXT + 0x500)

    def wrong(*args: Any, **how: Any) -> bytes:
        return write(*args, **how).replace(good, struct.pack("<Q", TEXT + 0x501))

    monkeypatch.setattr(elfwrite, "shared_object", wrong)
    with pytest.raises(KbridgeError, match="init_task"):
        libkernel.write_runtime(KERNEL, tmp_path / "lib.so")
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("temporary_cache")
def test_cached_runtime() -> None:
    file = libkernel.cached_runtime(KERNEL)
    assert file.name == "libkernel.so"
    written = file.stat().st_mtime_ns
    assert libkernel.cached_runtime(KERNEL) == file
    assert file.stat().st_mtime_ns == written
    # The running kernel under KASLR: the same build ID, other addresses.
    slid = table([(address + 0x1000000, *rest) for address, *rest in KERNEL.symbols[1:]])
    assert libkernel.cached_runtime(slid) != file
    assert len(list(paths.cache("libkernel").iterdir())) == 2


names = st.text(st.sampled_from("abcXYZ_.$019"), min_size=1, max_size=40)
kernels = st.dictionaries(names, st.tuples(st.integers(0, (1 << 64) - 1), st.booleans()))


@settings(max_examples=20, deadline=None)
@given(kernels)
def test_any_symbols_read_back(
    tmp_path_factory: pytest.TempPathFactory, kernel: dict[str, tuple[int, bool]]
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.so"
    rows = [(value, "T" if text else "D", name) for name, (value, text) in kernel.items()]
    libkernel.write_runtime(table(rows), file)
    kinds = {True: "STT_FUNC", False: "STT_OBJECT"}
    assert dynamic_symbols(file) == {
        name: (value, kinds[text], SHN_ABS) for name, (value, text) in kernel.items()
    }
    # what ld.so finds: pyelftools loses its place in a chain where two hashes differ in bit 0
    symbols = table(rows).resolvable()
    libkernel.runtime(symbols, libkernel.Origin("", "")).cross_check(file)
