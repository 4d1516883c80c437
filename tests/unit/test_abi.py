# SPDX-License-Identifier: GPL-2.0-only
"""What a program records of the kernel's interface, and how the record is compared."""

from __future__ import annotations

import json
import struct
import subprocess
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given
from hypothesis import strategies as st

from kbridge import abi, btf
from kbridge.abi import Interface, Kernel
from kbridge.errors import KbridgeError
from kbridge.kernels.headers import Export
from kbridge.kernels.image import KernelImage
from kbridge.kernels.target import KernelTarget
from kbridge.symbols.parts import Parts
from kbridge.symbols.table import Symbol, SymbolTable

USED = Interface(
    crcs={"_printk": 0x92997ED8, "module_layout": 1},
    others=["nr_processes"],
    weak=[],
    types={"struct": ["task"], "typedef": ["count_t"]},
    configuration="ab",
    features={"X86_FEATURE_FPU": 0},
)


def test_a_record_is_read_as_it_was_written() -> None:
    assert abi.decode(abi.encode(USED)) == USED
    empty = Interface(others=[], weak=[])
    assert abi.decode(abi.encode(empty)) == empty


@given(st.binary(max_size=200))
def test_what_is_no_record_is_an_error(content: bytes) -> None:
    for record in (content, zlib.compress(content)):
        with pytest.raises(KbridgeError, match="damaged, or of another kbridge"):
            abi.decode(record)


def test_records_of_other_forms() -> None:
    whole = abi.encode(USED)
    bomb = zlib.compress(b" " * (64 << 20), 9)
    for text in (b"[]", b"null", b'{"form":1}', b'{"form":2,"crcs":{}}', b'{"form":1,"crcs":[]}'):
        with pytest.raises(KbridgeError):
            abi.decode(zlib.compress(text))
    rows = json.loads(zlib.decompress(whole))
    for key, value in (
        ("types", {"class": []}),
        ("types", {"struct": "task"}),
        ("types", {"struct": [1]}),
        ("types", []),
        ("others", "name"),
        ("weak", [None]),
        ("features", {"X86_FEATURE_FPU": "0"}),
        ("features", []),
        ("configuration", 1),
        ("link", "ld"),
        ("more", 1),
    ):
        with pytest.raises(KbridgeError):
            abi.decode(zlib.compress(json.dumps({**rows, key: value}).encode()))
    for record in (whole[:-1], whole[1:], bomb, b""):
        with pytest.raises(KbridgeError):
            abi.decode(record)


def test_the_digest_is_of_the_kernel_too() -> None:
    record = abi.encode(USED)
    digests = {
        abi.digest(*names, record) for names in (("6.1", "ab"), ("6.1", "ac"), ("6.2", "ab"))
    }
    assert len(digests) == 3
    assert {len(one) for one in digests} == {32}


def test_types_of_the_kernel_that_an_object_knows(tmp_path: Path) -> None:
    """Those that the kernel's headers define, whole; not the kmod's own."""
    headers = tmp_path / "include"
    headers.mkdir()
    (headers / "kernel.h").write_text(
        "struct unknown; struct known { struct unknown *inside; union pair { int a; } pair; };\n"
        "typedef struct { int x; } named_t; enum colour { RED }; struct unused { int x; };\n"
    )
    (tmp_path / "own.h").write_text("struct own { int x; };\n")
    (tmp_path / "a.c").write_text(
        '#include <kernel.h>\n#include "own.h"\n'
        "int f(struct known *one, struct own *two, named_t *three, enum colour c)\n"
        "{ return one->pair.a + two->x + three->x + c; }\n"
    )
    for version in ("-gdwarf-4", "-gdwarf-5"):
        command = ["gcc", version, "-I", headers, "-c", "-o", "a.o", "a.c"]
        subprocess.run(command, cwd=tmp_path, check=True)
        with (tmp_path / "a.o").open("rb") as stream:
            found = abi.types_of(ELFFile(stream), [str(headers)])
        assert found == {
            "struct": ["known"],
            "union": ["pair"],
            "enum": ["colour"],
            "typedef": ["named_t"],
        }


# -- two kernels --


def types(size: int, argument: int) -> bytes:
    """struct task of that size, typedef int count_t, int nr_processes(arguments)."""
    strings = b"\0int\0task\0pid\0count_t\0nr_processes\0long\0"
    at = {name: strings.index(b"\0" + name + b"\0") + 1 for name in strings.split(b"\0") if name}
    words = (
        *(at[b"int"], btf.INT << 24, 4, 1 << 24 | 32),
        *(at[b"task"], btf.STRUCT << 24 | 1, size, at[b"pid"], 1, 0),
        *(at[b"count_t"], btf.TYPEDEF << 24, 1),
        *(0, btf.FUNC_PROTO << 24 | 1, 1, 0, argument),
        *(at[b"nr_processes"], btf.FUNC << 24, 4),
        *(at[b"long"], btf.INT << 24, 8, 1 << 24 | 64),
    )
    body = struct.pack(f"<{len(words)}I", *words)
    header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(body), len(body), len(strings))
    btf.check(header + body + strings, "it")
    return header + body + strings


CRCS = {"_printk": 0x92997ED8, "module_layout": 1}
SYMBOLS = [Symbol(0x1000, "T", "_printk"), Symbol(0x1010, "T", "nr_processes")]
FEATURES = """\
#define NCAPINTS\t\t\t21\t   /* N 32-bit words worth of info */
#define X86_FEATURE_FPU\t\t\t( 0*32+ 0) /* Onboard FPU */
#define X86_FEATURE_SMEP\t\t(9*32 + 7)
#define X86_BUG(x)\t\t\t(NCAPINTS*32 + (x))
#define X86_BUG_F00F\t\t\tX86_BUG(0) /* Intel F00F */
#define X86_BUG_CPU_MELTDOWN\t\tX86_BUG( 14)
"""
SETTINGS = "CONFIG_SMP=y\nCONFIG_HZ=250\n"


@pytest.fixture
def kernel(tmp_path: Path) -> Any:
    made: list[Path] = []

    def make(
        *,
        size: int = 8,
        argument: int = 1,
        crcs: dict[str, int] | None = None,
        symbols: list[Symbol] | None = None,
        settings: str | None = SETTINGS,
        features: str = FEATURES,
    ) -> Kernel:
        kdir = tmp_path / str(len(made))
        (kdir / abi.FEATURES).parent.mkdir(parents=True)
        (kdir / abi.FEATURES).write_text(features)
        (kdir / "include/config").mkdir(parents=True)
        made.append(kdir)
        if settings is not None:
            (kdir / "include/config/auto.conf").write_text(settings)
        rows = SYMBOLS if symbols is None else symbols
        return Kernel(
            KernelImage("6.1.0-test", tmp_path, None),
            SymbolTable(rows, "6.1.0-test", "ab", "a test"),
            Parts("a test", [], CRCS if crcs is None else crcs, types(size, argument)),
            KernelTarget("6.1.0-test", kdir),
        )

    return make


def used(kernel: Kernel, **changes: Any) -> Interface:
    return replace(USED, configuration=abi._configuration(kernel.settings), **changes)


def test_the_same_kernel(kernel: Any) -> None:
    old = kernel()
    assert abi.compare(used(old), old, kernel(), []) == []
    # names of the build are no part of the interface
    named = SETTINGS + 'CONFIG_BUILD_SALT="6.1.0-2"\nCONFIG_CC_VERSION_TEXT="gcc"\n'
    assert abi.compare(used(old), old, kernel(settings=named), []) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"crcs": {**CRCS, "_printk": 5}}, "_printk has another CRC"),
        ({"crcs": {"module_layout": 1}}, "_printk is not exported by that kernel"),
        ({"crcs": {"_printk": 0x92997ED8}}, "module_layout is not in that kernel"),
        ({"size": 16}, "struct task changed: size 8 became 16"),
        ({"argument": 6}, "nr_processes has another prototype"),
        ({"symbols": SYMBOLS[:1]}, "nr_processes is not in that kernel"),
        (
            {"symbols": [*SYMBOLS, Symbol(0x1020, "T", "nr_processes")]},
            "nr_processes has 2 definitions in that kernel",
        ),
        ({"settings": "CONFIG_SMP=y\nCONFIG_HZ=1000\n"}, "CONFIG_HZ=250 became 1000"),
        ({"settings": "CONFIG_HZ=250\n"}, "CONFIG_SMP=y became n"),
    ],
)
def test_what_differs_is_named(kernel: Any, change: dict[str, Any], said: str) -> None:
    old = kernel()
    assert abi.compare(used(old), old, kernel(**change), []) == [said]


def test_what_cannot_be_compared_counts_as_changed(kernel: Any) -> None:
    old = kernel()
    table = [*SYMBOLS, Symbol(0x2000, "D", "some_list"), Symbol(0x2010, "T", "in_assembly")]
    new = kernel(symbols=table)
    unknown = used(old, others=["some_list", "in_assembly"])
    assert abi.compare(unknown, old, new, []) == [
        f"{name} is not exported and not in the BTF, so it cannot be compared"
        for name in ("some_list", "in_assembly")
    ]
    assert abi.compare(used(old, features={}), old, new, []) == [
        f"the numbers of processor features were not recorded: no {abi.FEATURES}"
    ]
    without = replace(new, parts=replace(new.parts, types=b""))
    assert abi.compare(used(old), old, without, []) == [
        "kernel 6.1.0-test has no BTF, so no type can be compared"
    ]
    orc = replace(new, parts=replace(new.parts, orc="other"))
    assert abi.compare(used(old), old, orc, []) == ["the form of unwind data (ORC) differs"]
    elsewhere = replace(used(old), configuration="of a kernel that is gone")
    (said,) = abi.compare(elsewhere, old, new, [])
    assert said.startswith("the configuration differs")


def test_numbers_of_processor_features(kernel: Any) -> None:
    numbers = abi.feature_numbers(FEATURES)
    assert numbers == {
        "X86_FEATURE_FPU": 0,
        "X86_FEATURE_SMEP": 295,
        "X86_BUG_F00F": 672,
        "X86_BUG_CPU_MELTDOWN": 686,
    }
    old = kernel()
    asks = used(old, features=numbers)
    more = FEATURES + "#define X86_FEATURE_NEW (9*32+31)\n"
    assert abi.compare(asks, old, kernel(features=more), []) == []
    moved = FEATURES.replace("9*32 + 7", "9*32 + 8")
    assert abi.compare(asks, old, kernel(features=moved), []) == [
        "X86_FEATURE_SMEP has another number"
    ]
    wider = FEATURES.replace("21", "22")  # moves the flaws
    assert abi.compare(asks, old, kernel(features=wider), []) == [
        "X86_BUG_F00F has another number",
        "X86_BUG_CPU_MELTDOWN has another number",
    ]
    assert abi.compare(used(old, features=None), old, kernel(features=moved), []) == []


def test_a_weak_symbol_may_be_missing(kernel: Any) -> None:
    old = kernel()
    weak = used(old, others=["nobody"], weak=["nobody"])
    assert abi.compare(weak, old, kernel(), []) == []


def test_an_export_of_a_module_is_that_of_the_headers(kernel: Any) -> None:
    old, new = kernel(), kernel()
    needs = used(old, crcs={**CRCS, "nf_hook": 7})
    assert abi.compare(needs, old, new, []) == ["nf_hook is not in that kernel"]
    for crc, said in ((7, []), (8, ["nf_hook has another CRC"])):
        new.__dict__["exports"] = {"nf_hook": Export("nf", gpl_only=True, namespace="", crc=crc)}
        assert abi.compare(needs, old, new, []) == said


def test_programs_that_cannot_be_compared(kernel: Any, tmp_path: Path) -> None:
    built_for = ("6.1.0-old", "ab")
    script = abi.encode(replace(USED, link="script"))
    for record, said in ((b"", "does not say"), (b"x", "is damaged"), (script, "link=script")):
        with pytest.raises(KbridgeError, match=said) as caught:
            abi.admit(tmp_path / "prog", built_for, record, kernel(), [])
        assert caught.value.hint
        assert str(tmp_path / "prog") in caught.value.message
    no_headers = replace(kernel(), target=None)
    with pytest.raises(KbridgeError, match="no headers of kernel 6") as caught:
        abi.admit(tmp_path / "prog", built_for, abi.encode(USED), no_headers, [])
    assert caught.value.hint == "install them with: apt-get install linux-headers-6.1.0-test"


def test_the_image_of_its_own_kernel_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is none; one of another build is not taken for it."""
    fetched: list[str] = []
    own = KernelImage("6.1.0-old", Path("vmlinuz"), None)
    here: dict[str, KernelImage] = {}
    monkeypatch.setattr(abi.images, "of_build", lambda _release, build_id: here.get(build_id))
    monkeypatch.setattr(abi.images, "find", fetched.append)
    monkeypatch.setattr(abi, "kernel", lambda image: image)
    with pytest.raises(KbridgeError, match="with build ID ab is not here"):
        abi._own_kernel("6.1.0-old", "ab")
    assert fetched == ["6.1.0-old"]
    here["ab"] = own
    assert abi._own_kernel("6.1.0-old", "ab") is own
    assert fetched == ["6.1.0-old"]
