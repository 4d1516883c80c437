# SPDX-License-Identifier: GPL-2.0-only
"""What kbridge symbol says of a name, on a made-up kernel."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from kbridge import btf
from kbridge.errors import UsageError
from kbridge.inspect import kernel as kernels
from kbridge.inspect.kernel import Kernel
from kbridge.kernels.headers import Export
from kbridge.kernels.image import KernelImage
from kbridge.symbols import image as symbol_image
from kbridge.symbols import parts
from kbridge.symbols.table import Symbol, SymbolTable, UnknownSymbol
from kbridge.verbs import symbol, symbols

TEXT = 0xFFFFFFFF81000000
ROWS = (
    (0, "A", "__per_cpu_start"),
    (0x400, "A", "counter"),
    (0x1000, "A", "__per_cpu_end"),
    (TEXT, "T", "vfs_read"),
    (TEXT + 0x10, "t", "show"),
    (TEXT + 0x20, "t", "show"),
    (TEXT + 0x30, "t", "user_read"),
    (TEXT + 0x40, "T", "user_read"),
    (TEXT + 0x50, "t", "lonely"),
    (TEXT + 0x2000, "D", "table"),
    (TEXT + 0x9000, "B", "beyond"),
)
EXPORTS = {
    "vfs_read": Export("vmlinux", gpl_only=False, namespace="VFS", crc=0x12),
    "user_read": Export("vmlinux", gpl_only=True, namespace="", crc=0xFFEEDDCC),
    "nf_hook": Export("nf", gpl_only=True, namespace="", crc=7),
    "lonely": Export("nf", gpl_only=False, namespace=""),
}
SECTIONS = [
    parts.Section(".data..percpu", 0, 0x1000),
    parts.Section(".text", TEXT, 0x1000),
    parts.Section(".data", TEXT + 0x2000, 0x1000),
]


def types() -> bytes:
    """int vfs_read(int words); int show(int words);, and a per-CPU int counter."""
    strings = b"\0int\0words\0vfs_read\0show\0counter\0"
    at = {name: strings.index(b"\0" + name) + 1 for name in strings.split(b"\0") if name}
    words = (
        *(at[b"int"], btf.INT << 24, 4, 1 << 24 | 32),
        *(0, btf.FUNC_PROTO << 24 | 1, 1, at[b"words"], 1),
        *(at[b"vfs_read"], btf.FUNC << 24, 2),
        *(at[b"show"], btf.FUNC << 24, 2),
        *(at[b"counter"], btf.VAR << 24, 1, 1),
    )
    body = struct.pack(f"<{len(words)}I", *words)
    size = len(body)
    header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, size, size, len(strings))
    return header + body + strings


@pytest.fixture(autouse=True)
def made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    table = SymbolTable([Symbol(*row) for row in ROWS], "6.1.0-test", "ab" * 20, "a test")
    held = parts.Parts("a test", SECTIONS, {}, types())
    btf.check(held.types, "a test")
    image = KernelImage("6.1.0-test", Path("vmlinuz"), None)
    folder = "headers"
    monkeypatch.setattr(symbols, "image_of", lambda _kernel, kdir: (image, kdir or folder))
    monkeypatch.setattr(symbol_image, "cached", lambda _path: table)
    monkeypatch.setattr(parts, "cached", lambda _path: held)
    monkeypatch.setattr(kernels, "facts", lambda *_: Kernel("6.1.0-test", exports=EXPORTS))


def said(name: str) -> str:
    return symbol.symbol(symbol.SymbolRequest(name))


def test_a_function() -> None:
    found = symbol.find("vfs_read")
    (only,) = found.definitions
    assert only == symbol.Definition("0xffffffff81000000", "T", "function", ".text", linked=True)
    assert (found.type, found.linkable, found.exported) == ("function", True, True)
    assert (found.exporter, found.namespace, found.crc) == ("vmlinux", "VFS", "0x00000012")
    assert found.declarations == ["int vfs_read(int words)"]
    assert said("vfs_read") == (
        "vfs_read\n"
        "  kernel    6.1.0-test\n"
        "  address   0xffffffff81000000  function (T, global), .text\n"
        "  exported  yes, name space VFS, by vmlinux\n"
        "  CRC       0x00000012\n"
        "  C         int vfs_read(int words);\n"
    )


def test_variables() -> None:
    counter = symbol.find("counter")
    assert (counter.type, counter.exported, counter.crc) == ("per-CPU", False, None)
    assert counter.declarations == ["int counter"]
    assert "0x0000000000000400  per-CPU (A), .data..percpu\n" in said("counter")
    # of ordinary variables there is no type in the BTF, and none is made up
    table = said("table")
    assert "data (D, global), .data\n" in table
    assert "C         not in the kernel's BTF\n" in table
    assert "in no section" in said("beyond")


def test_several_definitions() -> None:
    show = symbol.find("show")
    assert (show.linkable, [one.linked for one in show.definitions]) == (False, [False, False])
    assert "no kmod can be: ambiguous, 2 definitions\n" in said("show")
    assert "the BTF does not say whose this is:\n  C         int show(int words);\n" in said("show")
    user = symbol.find("user_read")
    assert [one.linked for one in user.definitions] == [False, True]
    assert (user.exported, user.gpl_only, user.crc) == (True, True, "0xffeeddcc")
    assert ".text, linked\n" in said("user_read")


def test_what_modules_export() -> None:
    found = symbol.find("nf_hook")
    assert (found.definitions, found.linkable, found.exporter) == ([], True, "nf")
    assert "address   none before nf is loaded\n" in said("nf_hook")
    assert "the module nf, whose BTF would tell, is not here\n" in said("nf_hook")
    # static in the image, exported by a module: a kmod means the latter
    lonely = symbol.find("lonely")
    assert [one.linked for one in lonely.definitions] == [False]
    assert (lonely.exporter, lonely.crc) == ("nf", None)
    assert "that of nf, not the static one of the image" in said("lonely")


def test_without_headers_what_is_exported_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    image = KernelImage("6.1.0-test", Path("vmlinuz"), None)
    monkeypatch.setattr(symbols, "image_of", lambda *_: (image, None))
    assert symbol.find("vfs_read").exported is None
    assert "exported  ?" in said("vfs_read")


def test_near_names_are_also_those_of_modules() -> None:
    for wrong, right in (("vfs_raed", "vfs_read"), ("nf_hok", "nf_hook")):
        with pytest.raises(UnknownSymbol) as caught:
            symbol.find(wrong)
        assert right in caught.value.near
        assert caught.value.status == 1
    for wrong in ("", "two words", "\u00e9", "x" * 600):
        with pytest.raises(UsageError):
            symbol.find(wrong)


def test_an_empty_name_cannot_be_left_out_as_a_pattern_can() -> None:
    with pytest.raises(UsageError, match="an empty name") as caught:
        symbol.find("")
    assert caught.value.hint == "name a symbol: kbridge symbol vfs_read"


def test_json_is_one_object_with_stable_keys() -> None:
    shown = json.loads(symbol.symbol(symbol.SymbolRequest("vfs_read", json=True)))
    assert list(shown) == [
        *("name", "kernel", "build_id", "type", "definitions", "linkable", "exported", "exporter"),
        *("gpl_only", "namespace", "crc", "declarations", "untyped"),
    ]
    assert list(shown["definitions"][0]) == ["address", "letter", "type", "section", "linked"]
