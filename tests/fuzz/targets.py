# SPDX-License-Identifier: GPL-2.0-only
"""The readers that are fuzzed: what they start from, and what has to hold of what they take.

A reader's `run` returns a word or nothing, or raises KbridgeError or OSError; anything else that it
raises, assertions too, is a finding.
"""

from __future__ import annotations

import contextlib
import functools
import random
import re
import struct
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from kbridge import abi, btf, layouts, libkernel, needed
from kbridge.errors import KbridgeError
from kbridge.kernels import headers
from kbridge.symbols import (
    choice,
    files,
    image,
    kallsyms,
    modules,
    notes,
    parts,
    source,
    store,
    tables,
)  # fmt: skip
from kbridge.symbols.table import (
    LINKER_ALIASES,
    AmbiguousSymbol,
    Columns,
    Symbol,
    SymbolTable,
    UnknownSymbol,
)  # fmt: skip
from kbridge.symbols.unpack import unpack
from tests.integration import test_symbols_image as of_kallsyms
from tests.unit import test_btf as of_btf
from tests.unit import test_symbols_image as of_image
from tests.unit import test_symbols_unpack as of_unpack

BASE = of_image.BASE


@dataclass(frozen=True)
class Target:
    """`words`: pieces that damage may put in."""

    name: str
    seeds: Callable[[], Sequence[bytes]]
    run: Callable[[bytes], str | None]
    words: Sequence[bytes] = ()


def _file(data: bytes, name: str = "input") -> Path:
    path = Path(name)  # in the fuzzer's own folder
    path.write_bytes(data)
    return path


def _one_byte(data: bytes, seed: bytes) -> bool:
    """Whether the two differ in one byte only."""
    differ = [a != b for a, b in zip(data, seed, strict=False)]
    return len(data) == len(seed) and sum(differ) == 1


# -- text --

KALLSYMS = b"".join(
    (
        b"0000000000000000 A __per_cpu_start\n000000000001fb80 A pcpu_hot\n",
        b"ffffffff81000000 T _stext\nffffffff81000000 T _text\nffffffff81000100 t show\n",
        b"ffffffff81000200 t show\nffffffff81000300 W memcpy\nffffffff81000300 T __memcpy\n",
        b"ffffffff82000000 D init_task\n",
    )
)
OF_MODULES = b"ffffffffc0000100 t helper\t[ext4]\nffffffffc0000000 T first\t[crc16]\n"
OF_BPF = b"ffffffffc0000200 t jit\t[bpf]\n"
WITH_MODULES = KALLSYMS + OF_MODULES + OF_BPF
LIST = (
    b"ext4 16384 0 - Live 0xffffffffc0000000 (OE)\n"
    b"crc16 16384 1 ext4, Unloading 0xffffffffc0000000\n"
)


def _as_lines(content: bytes) -> list[tuple[Symbol, str]]:
    """A reader of kallsyms that a child could write."""
    found = []
    for line in content.decode("latin-1").split("\n"):
        words = line.replace("\t", " ").split(" ")
        words = [word for word in words if word]
        if words:
            address, letter, name, *module = words
            assert len(address) == 16
            assert len(letter) == 1
            found.append((Symbol(int(address, 16), letter, name), "".join(module)[1:-1]))
    return found


def _sound(symbols: Sequence[Symbol]) -> None:
    for one in symbols:
        assert 0 <= one.address < 1 << 32 or one.address >= 0xFFFFFFFF80000000, one
        assert re.fullmatch("[!-~]{1,511}", one.name), one


def _kallsyms(data: bytes) -> str:
    table = kallsyms.parse(data, modules=True)
    plain = kallsyms.parse(data)
    lines = _as_lines(data)
    own = [symbol for symbol, module in lines if not module]
    assert list(plain.symbols) == own
    names = {one.name for one in own}
    lasting = [(one, module) for one, module in lines if not re.match(r"bpf$|__builtin__", module)]
    others = [one for one, module in lasting if module and one.name not in names]
    assert list(table.symbols) == [*own, *others]
    _sound(list(table.symbols))
    assert own == sorted(own, key=lambda one: one.address)
    with mock.patch.object(kallsyms, "_uniform", return_value=None):  # the slow way
        assert list(kallsyms.parse(data, modules=True).symbols) == list(table.symbols)
    loaded = kallsyms.of_modules(data, ["ext4"], "kallsyms")
    assert list(loaded) == [one for one, module in lines if module == "ext4"]
    return "taken"


def _modules(data: bytes) -> str:
    listed, _, symbols = data.partition(b"\0")
    with (
        mock.patch.object(modules, "FILE", _file(LIST, "modules")),
        mock.patch.object(kallsyms, "FILE", _file(symbols, "kallsyms")),
    ):
        table = modules.read(listed, "saved")
        _sound(list(table.symbols))
        known = {one for one, module in _as_lines(symbols) if module in ("ext4", "crc16")}
        assert set(table.symbols) <= known
    return "taken"


def _source(data: bytes) -> str:
    path = _file(data)
    kind = source.kind(path)
    return f"taken: {kind} {bool(source.read(path, with_modules=True).symbols)}"


def _headers(data: bytes) -> str:
    folder = Path("kdir")
    folder.mkdir(exist_ok=True)
    for name in ("Module.symvers", ".config", "Makefile"):
        (folder / name).write_bytes(data)
    exported = headers.exports(folder)
    assert exported is not None
    for one in exported.values():
        assert 0 <= one.crc < 1 << 32, one
    headers.of_modules(exported)
    assert headers.configuration(folder) is not None
    headers.file(folder, "nothing.h")
    return "taken"


SYMVERS = (
    b"0x12345678\tprintk\tvmlinux\tEXPORT_SYMBOL\t\n"
    b"0x00000000\text4_x\tfs/ext4/ext4-core\tEXPORT_SYMBOL_GPL\tNAMESPACE\n"
)
CONFIG = b'CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C="text \\" more"\ninclude /none/Makefile\n'


# -- tables --


def _rows(data: bytes) -> list[Symbol]:
    """Rows with few names and addresses, so that they meet."""
    names = ("a", "b", "show", "pcpu_hot", "const_pcpu_hot", "x.1", "~")
    return [
        Symbol(BASE + 16 * (one >> 4 & 3), "AtTdWw"[one % 6], names[two % len(names)])
        for one, two in zip(data[::2], data[1::2], strict=False)
    ]


def _model(rows: Sequence[Symbol], name: str) -> Symbol | int | None:
    """What the name means; a number of definitions where that is open, None where there is none."""
    found = [one for one in rows if one.name == name]
    if not found and name in LINKER_ALIASES:
        found = [one._replace(name=name) for one in rows if one.name == LINKER_ALIASES[name]]
    if not found:
        return None
    for group in (found, [one for one in found if one.type in "TDW"]):
        if len({one.address for one in group}) == 1:
            return group[0]
    return len(found)


def _resolved(table: SymbolTable, name: str) -> Symbol | int | None:
    try:
        return table.resolve(name)
    except UnknownSymbol:
        return None
    except AmbiguousSymbol as problem:
        return len(problem.candidates)


def _table(data: bytes) -> str:
    rows = _rows(data)
    plain = SymbolTable(rows, "6", "ab", "rows")
    columns = SymbolTable(Columns.of(rows), "6", "ab", "rows")
    stored = store.load(store.dump(plain))
    assert stored is not None
    names = {*(one.name for one in rows), *LINKER_ALIASES, "none"}
    meant = {name: _model(rows, name) for name in names}
    expected = {name: one for name, one in meant.items() if isinstance(one, Symbol)}
    for table in (plain, columns, stored):
        assert list(table.symbols) == rows
        assert table.digest() == plain.digest()
        assert {name: _resolved(table, name) for name in names} == meant
        accepted = list(table.resolvable())
        assert {one.name: one for one in accepted} == expected
        assert len(accepted) == len(expected)
        assert set(table.ambiguous()) == {n for n, one in meant.items() if isinstance(one, int)} - (
            set(LINKER_ALIASES) - {one.name for one in rows}
        )
    for name in sorted(names - {"none"}):
        candidates = plain.find(name)
        if candidates:
            wanted = candidates[len(data) % len(candidates)].address
            chosen = choice.choose(columns, [f"{name}={wanted:#x}"], None)
            assert chosen.resolve(name).address == wanted
            assert [one.address for one in chosen.resolvable() if one.name == name] == [wanted]
    return "taken"


def _store(data: bytes) -> str:
    table = store.load(data)
    assert table is None or data in stored()
    return "taken" if table else "none"


@functools.cache
def stored() -> list[bytes]:
    rows = _rows(random.Random(1).randbytes(60))
    return [
        store.dump(SymbolTable(rows, "6", "ab", "rows")),
        store.dump(SymbolTable([], "", "", "")),
    ]


def _notes(data: bytes) -> str:
    found = notes.build_id(data)
    assert not found or bytes.fromhex(found) in data
    return f"taken: {bool(found)}"


# -- images --


@functools.cache
def _symbols(layout: str) -> list[Symbol]:
    rows = of_image.some_symbols(5, 257, per_cpu=layout in ("6.1", "6.2", "6.4"))
    first = next(i for i, one in enumerate(rows) if one.address >= BASE)
    rows[first] = Symbol(BASE, "T", "_text")
    return rows


@functools.cache
def images() -> dict[bytes, list[Symbol]]:
    return {of_image.vmlinux(_symbols(one), one, 7): _symbols(one) for one in of_image.LAYOUTS}


def _decode(data: bytes) -> str:
    """Only names, and addresses one at a time, may change without a word: nothing tells them."""
    table = image.read(_file(data))
    assert len(table.symbols) >= 256
    for seed, rows in images().items():
        if _one_byte(data, seed) and list(table.symbols) != rows:
            found = list(table.symbols)
            assert len(found) == len(rows)
            moved = [a for a, b in zip(found, rows, strict=True) if a.address != b.address]
            assert len(moved) <= 1, f"{len(moved)} symbols moved"
            return "taken: another"
    return "taken"


@functools.cache
def packed() -> dict[bytes, str]:
    return {
        of_unpack.bzimage(of_unpack.payload(method, of_unpack.KERNEL)): method
        for method in of_unpack.PACKERS
    }


def _unpack(data: bytes) -> str:
    found = unpack(data, "vmlinuz")
    for seed, method in packed().items():
        # LZ4 and lzma have no checksums
        if method not in ("lz4", "lzma") and _one_byte(data, seed):
            assert found == of_unpack.KERNEL, method
    return f"taken: {found == of_unpack.KERNEL}"


def _encoder(data: bytes) -> str:
    """Symbols of any kind through the kernel's own scripts/kallsyms, and back."""
    chance = random.Random(data)
    letters = [*"abcdefgxyz_.$0123456789", "alloc", "__x64_sys_", "Q" * 130]
    rows = [(0, "D", "__per_cpu_start"), (BASE, "T", "_text"), (BASE, "T", "_stext")]
    for place in sorted(chance.sample(range(0, 1 << 24, 4), chance.randrange(260, 900))):
        name = "x" + "".join(chance.choices(letters, k=chance.randrange(1, 40)))
        rows.append((BASE + place, chance.choice("tTdDrRbBwWvVi"), name[:500]))
    places = sorted(chance.sample(range(8, 0x1000, 8), chance.randrange(1, 90)))
    rows[1:1] = [(place, "d", f"v{place}") for place in places] + [(0x1000, "D", "__per_cpu_end")]
    text = "".join(f"{address:016x} {letter} {name}\n" for address, letter, name in rows)
    script = of_kallsyms.SCRIPTS[len(data) % len(of_kallsyms.SCRIPTS)]
    _file(text.encode(), "map")
    options = ["--all-symbols", "--absolute-percpu"]
    if b"base-relative" in subprocess.run([script], capture_output=True, check=False).stderr:
        options.append("--base-relative")
    done = subprocess.run([script, *options, "map"], capture_output=True, check=True)
    content = bytes(64) + of_kallsyms.assembled(done.stdout.decode(), Path.cwd())
    segments = [tables.Segment(BASE, 1 << 25, 0, len(content)), tables.Segment(0, 0x1000, 0, 0)]
    found = list(tables.decode(content, segments, "encoder"))
    assert found == [Symbol(a, "A" if a < BASE else letter, name) for a, letter, name in rows]
    return f"taken: {script.parts[3]}"


# -- objects --

ASSEMBLY = """
.globl f
f: call memcpy@PLT
   call puts@PLT
   mov init_task@GOTPCREL(%rip), %rax
   ret
.symver memcpy, memcpy@LINUX_KERNEL
"""
LOCAL = ["one.c", "two.c"]


def _run(*words: str | Path) -> None:
    subprocess.run(words, check=True, capture_output=True)


@functools.cache
def objects() -> list[bytes]:
    """An object, a library that is bound to libkernel.so, and a program of two files."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "a.s").write_text(ASSEMBLY)
        for file in LOCAL:
            (folder / file).write_text(
                f"static int show(void) {{ return 1; }} int (*{file[:3]})(void) = show;"
            )
        libkernel.write_stub(
            {"memcpy": True, "init_task": False}, folder / "libkernel.so", release="", build_id=""
        )
        _run("gcc", "-c", folder / "a.s", "-o", folder / "a.o")
        _run("gcc", "-shared", "-nostdlib", folder / "a.o", folder / "libkernel.so", "-o",
             folder / "a.so")  # fmt: skip
        sources = [folder / one for one in LOCAL]
        _run("gcc", "-shared", "-nostdlib", *sources, "-o", folder / "b.so")
        return [(folder / one).read_bytes() for one in ("a.o", "a.so", "b.so")]


def _needed(data: bytes) -> str:
    rows = [Symbol(BASE, "T", "memcpy"), Symbol(BASE + 8, "D", "init_task")]
    found = needed.names([_file(data)], SymbolTable(rows, "6", "", "rows"))
    assert found.kernel | found.plain <= {"memcpy", "init_task"}
    return f"taken: {len(found.kernel)} {len(found.plain)}"


def _choice(data: bytes) -> str:
    path = _file(data)
    files.has_symbols(path)
    known = files.of(path, "show")
    places = [*known, BASE]
    rows = [Symbol(place, "t", "show") for place in sorted(places) if 0 <= place < 1 << 64]
    table = SymbolTable(rows, "6", "", "rows")
    for file in LOCAL:
        with contextlib.suppress(KbridgeError):
            one = choice.choose(table, [f"show@{file}"], path).resolve("show")
            assert file in known[one.address]
    return f"taken: {len(known)}"


def _words(data: bytes) -> str:
    rows = [Symbol(BASE + 8 * n, "t", "show") for n in range(3)]
    text = data.decode("utf-8", "surrogateescape")
    table = choice.choose(SymbolTable(rows, "6", "", "rows"), text.split("\n"), None)
    for one in table.choices.values():
        assert one in rows
    return "taken"


EXPORTS = libkernel.exports(
    Columns(
        [BASE, BASE + 0x300, BASE + 0x300, BASE + 0x400, BASE + 0x500, 0x1FB80],
        "TTTtDA",
        ["_stext", "memcpy", "__memcpy", "state.12", "init_task", "pcpu_hot"],
    )
)


@functools.cache
def libraries() -> list[tuple[bytes, libkernel.Library]]:
    origin = libkernel.Origin("6.1.0-test", "ab" * 20, "a test", 0)
    both = [libkernel.Library(EXPORTS, origin, absolute) for absolute in (True, False)]
    return [(one.content(), one) for one in both]


SHT_NULL, SHT_DYNAMIC, SHT_NOBITS, SHT_DYNSYM, SHT_GNU_HASH = 0, 6, 8, 11, 0x6FFFFFF6


def _sections(data: bytes) -> list[tuple[int, bytes]]:
    """Type and content of each, where the section headers say."""
    (at,) = struct.unpack_from("<Q", data, 40)
    (count,) = struct.unpack_from("<H", data, 60)
    rows = [struct.unpack_from("<4xI16xQQ", data, at + 64 * n) for n in range(count)]
    return [(kind, data[start : start + size]) for kind, start, size in rows]


def _readback(data: bytes) -> str:
    """What passes has the same symbols, versions and notes, but for places in the stub."""
    path, said = _file(data), "taken"
    for good, library in libraries():
        try:
            library.compare(path)
        except KbridgeError as problem:
            said = str(problem) if _near(data, good) else said
            continue
        both = list(zip(_sections(data), _sections(good), strict=True))[:-1]  # but for their names
        for (kind, own), (kind_was, was) in both:
            assert kind == kind_was
            if kind == SHT_DYNSYM and not library.absolute:
                rows, before = (list(struct.iter_unpack("<IIQQ", one)) for one in (own, was))
                assert [row[:2] for row in rows] == [row[:2] for row in before]
            elif kind not in (SHT_NULL, SHT_NOBITS, SHT_GNU_HASH):
                end = -16 if kind == SHT_DYNAMIC and not library.absolute else len(was)
                assert own[:end] == was[:end], kind  # behind DT_NULL nobody looks
        assert data[16:20] == good[16:20]
        assert data[64 : 64 + 5 * 56] == good[64 : 64 + 5 * 56] or _only_physical(data, good)
    return said


def _near(data: bytes, good: bytes) -> bool:
    return data[:1000] != good[:1000] and len(data) == len(good)


def _only_physical(data: bytes, good: bytes) -> bool:
    rows = [[list(struct.unpack_from("<IIQQQQQQ", one, 64 + 56 * n)) for n in range(5)]
            for one in (data, good)]  # fmt: skip
    for row in (*rows[0], *rows[1]):
        row[4] = 0
    return rows[0] == rows[1]


# -- types --


@functools.cache
def type_data() -> list[bytes]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "one.c").write_text(of_btf.SOURCE)
        _run("gcc", "-g", "-c", "-o", folder / "one.o", folder / "one.c")
        _run("pahole", "-J", "--btf_encode_detached", folder / "one.btf", folder / "one.o")
        own = (folder / "one.btf").read_bytes()
    anonymous = btf.STRUCT << 24 | 2
    nested = of_btf.pack(
        *(1, anonymous, 16, 1, 2, 0, 1, 2, 64), *(0, anonymous, 8, 0, 3, 0, 0, 3, 32),
        *(0, anonymous, 4, 0, 4, 0, 0, 4, 16), *(1, btf.INT << 24, 4, 32),
        *(1, btf.TYPEDEF << 24, 2), *(1, btf.FUNC << 24, 7),
        *(0, btf.FUNC_PROTO << 24 | 1, 5, 1, 5),
        *(1, btf.ENUM64 << 24 | 1, 8, 1, 1, 0), *(1, btf.VAR << 24, 1, 0),
    )  # fmt: skip
    return [own, nested]


def _btf(data: bytes) -> str:
    btf.check(data, "vmlinux")
    types = btf.Btf(data, "vmlinux")
    named = []
    for number in range(1, types.count):
        kind = types.type(number)
        with contextlib.suppress(KbridgeError):
            types.declaration(number)
        if kind.kind in (btf.STRUCT, btf.UNION):
            types.members(kind)
        words = {btf.STRUCT: "struct", btf.UNION: "union", btf.TYPEDEF: "typedef", btf.ENUM: "enum",
                 btf.ENUM64: "enum"}  # fmt: skip
        if kind.kind in words and kind.name:
            named.append((words[kind.kind], kind.name))
        if kind.kind == btf.FUNC:
            with contextlib.suppress(KbridgeError):
                types.prototype(number)
                layouts.Layouts(types).signatures(kind.name, function=True)
    if not named:
        return "taken: nothing"
    # new ones: libbpf numbers enumerators (RED___2) that it prints a second time
    both = [layouts.Layouts(btf.Btf(data, name)) for name in ("old", "new")]
    for line in layouts.compare(*both, named):  # a damaged typedef may have no name
        assert line.startswith("typedef :"), line
    return "taken"


def _split(data: bytes) -> str:
    """As of a module, on top of the sound BTF of a kernel."""
    base = btf.Btf(type_data()[0], "vmlinux")
    btf.check(data, "module", (base.count, base.strings))
    types = btf.Btf(data, "module", base)
    for number in range(1, types.count):
        with contextlib.suppress(KbridgeError):
            types.declaration(number)
    both = [layouts.Layouts(base, [types]) for _ in range(2)]
    named = [("struct", name) for name in ("outer", "name") if types.all_named(name, btf.STRUCT)]
    assert layouts.compare(*both, named) == []
    return f"taken: {len(named)}"


@functools.cache
def exporting() -> list[bytes]:
    """An object with an export table of two symbols, CRCs and BTF."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "btf").write_bytes(type_data()[0])
        (folder / "a.s").write_text(
            '.section __ksymtab_strings,"a"\n1: .asciz "printk"\n2: .asciz "kfree"\n'
            '.section __ksymtab,"a"\n.long 0, 1b - ., 0\n.section __ksymtab_gpl,"a"\n'
            '.long 0, 2b - ., 0\n.section __kcrctab,"a"\n.long 0x1234\n.section __kcrctab_gpl,"a"\n'
            f'.long 0x5678\n.section .BTF,"a"\n.incbin "{folder}/btf"\n'
            '.section .orc_header,"a"\n.quad 1\n'
        )
        _run("gcc", "-nostdlib", "-shared", folder / "a.s", "-o", folder / "a.so")
        return [(folder / "a.so").read_bytes()]


def _parts(data: bytes) -> str:
    path = _file(data)
    found = parts.read(path)
    for crc in found.crcs.values():
        assert 0 <= crc < 1 << 32
    found.section_of(BASE)
    loaded = parts._load(parts._dump(found))
    assert loaded is not None
    assert (loaded.crcs, loaded.types) == (dict(found.crcs), found.types)
    base = btf.Btf(type_data()[0], "vmlinux")
    parts.of_module(data, "module", base)
    return f"taken: {len(found.crcs)}"


def _kept(data: bytes) -> str:
    found = parts._load(data)
    assert found is None or data in kept()
    return "taken" if found else "none"


@functools.cache
def kept() -> list[bytes]:
    sections = [parts.Section(".text", BASE, 4096)]
    return [parts._dump(parts.Parts("vmlinuz", sections, {"printk": 5}, type_data()[0], "01"))]


RECORD = abi.Interface(
    {"printk": 5}, ["show"], ["x"], {"struct": ["file"], "enum": ["e"]}, "abc", {"X86_F": 3}
)


def _abi(data: bytes) -> str:
    """The record, and (damage seldom gets through zlib) what is in it."""
    for record in (data, abi.zlib.compress(data)):
        with contextlib.suppress(KbridgeError):
            found = abi.decode(record)
            abi.encode(found)
            for kind, name in found.named_types:
                assert isinstance(kind + name, str)
            assert all(isinstance(crc, int) for crc in found.crcs.values())
            set(found.others) | set(found.weak) | set(found.features or {})
            assert found.link + found.configuration is not None
    return "taken"


TARGETS = (
    Target("kallsyms", lambda: [KALLSYMS, WITH_MODULES, KALLSYMS.replace(b"\n", b" \n")],
           _kallsyms, (b"\t[x]", b"\n", b"\t", b" ", b"\r\n", b"0000000000000000 t a\t[ext4]\n")),
    Target("modules", lambda: [LIST + b"\0" + KALLSYMS + OF_MODULES], _modules, (b"Live", b"\n")),
    Target("source", lambda: [KALLSYMS, LIST, SYMVERS], _source, (b"\0", b"\x7fELF", b"\t")),
    Target("headers", lambda: [SYMVERS, CONFIG], _headers,
           (b"\t", b"\n", b"0x", b"-", b"_", b"0" * 5000, "\u0661".encode(), b"include /")),
    Target("table", lambda: [bytes(range(40)), b"abcabcabc" * 9], _table),
    Target("store", stored, _store),
    Target("notes", lambda: [of_image.struct.pack("<III4s", 4, 20, 3, b"GNU\0") + bytes(20)],
           _notes),
    Target("image", lambda: list(images()), _decode, (b"0\0001\0002\0", b"Linux version 6 (")),
    Target("encoder", lambda: [b"1", b"22"], _encoder),
    Target("unpack", lambda: list(packed()), _unpack),
    Target("needed", objects, _needed, (b"memcpy", b"LINUX_KERNEL")),
    Target("files", objects, _choice, (b"show", b"one.c")),
    Target("choice", lambda: [b"show=0xffffffff81000000", b"show@one.c", b"show=10\nshow=11"],
           _words, (b"=", b"@", b"\n", b"0x", b"f" * 4000)),
    Target("readback", lambda: [data for data, _ in libraries()], _readback),
    Target("btf", type_data, _btf),
    Target("split", lambda: type_data()[1:], _split),
    Target("parts", exporting, _parts),
    Target("kept", kept, _kept),
    Target("abi", lambda: [abi.encode(RECORD), abi.zlib.decompress(abi.encode(RECORD))], _abi,
           (b"{}", b"[]", b"null", b"1", b'"', b"[" * 3000, b"9" * 5000, b"-", b"NaN", b"1e999")),
)  # fmt: skip
