# SPDX-License-Identifier: GPL-2.0-only
"""Symbols of real kernel images, and the kernel's own scripts/kallsyms as the oracle."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
import re
import struct
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kbridge import libkernel, paths, proc
from kbridge.kernels import image as kernel_image
from kbridge.kernels.target import KernelTarget
from kbridge.symbols import image, source, tables
from kbridge.symbols.table import Symbol
from kbridge.symbols.unpack import unpack

BASE = 0xFFFFFFFF81000000


@pytest.fixture
def images(kernels: list[KernelTarget]) -> list[Path]:
    """The images of the kernels whose headers are installed, and whatever else is at hand."""
    wanted = [kernel_image.find(kernel.release).vmlinuz for kernel in kernels]
    fetched = paths.cache("images").glob("*/boot/vmlinuz-*")
    return sorted({*wanted, *Path("/boot").glob("vmlinuz-*"), *fetched})


def test_every_image(images: list[Path], tmp_path: Path) -> None:
    for vmlinuz in images:
        table = image.read(vmlinuz)
        assert table.release == vmlinuz.name.removeprefix("vmlinuz-")
        assert re.fullmatch("[0-9a-f]{40}", table.build_id)
        assert len(table.symbols) > 80_000
        for name in ("_stext", "_printk", "init_task"):
            assert table.resolve(name).address >= BASE
        per_cpu = table.find("pcpu_hot") or table.find("current_task")
        assert [one.type for one in per_cpu] == ["A"]
        assert list(table.symbols) == sorted(table.symbols, key=lambda one: one.address)
        assert image.cached(vmlinuz) == table
        assert image.cached(vmlinuz) == table

        libkernel.write_runtime(table, tmp_path / "libkernel.so")  # reads itself back
        listing = proc.run(["nm", "-D", tmp_path / "libkernel.so"]).stdout
        assert f"{table.resolve('_printk').address:016x} A _printk@LINUX_KERNEL\n" in listing


def test_a_cached_table_loads_quickly(images: list[Path]) -> None:
    for vmlinuz in images:
        image.cached(vmlinuz)
        started = time.process_time()
        image.cached(vmlinuz)
        assert time.process_time() - started < 1  # 0.05 to 0.1 s; wide for a loaded machine


def test_an_unpacked_kernel(kernels: list[KernelTarget], tmp_path: Path) -> None:
    """A vmlinux, as a file that somebody names."""
    stock, vmlinux = kernel_image.find(kernels[-1].release).vmlinuz, tmp_path / "anything"
    vmlinux.write_bytes(unpack(stock.read_bytes(), "stock"))
    assert source.read(vmlinux) == replace(image.cached(stock), origin=str(vmlinux))


def _lzop(data: bytes, folder: Path) -> bytes:
    (folder / "vmlinux").write_bytes(data)
    proc.run(["lzop", "-1", "-f", "-o", folder / "vmlinux.lzo", folder / "vmlinux"])
    return (folder / "vmlinux.lzo").read_bytes()


# As the kernel's scripts/xz_wrap.sh packs, but faster.
_XZ = [{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2, "preset": 0}]

REPACKED: dict[str, Callable[[bytes, Path], bytes]] = {
    "gzip": lambda data, _: gzip.compress(data, 1),
    "bzip2": lambda data, _: bz2.compress(data, 1),
    "xz": lambda data, _: lzma.compress(data, check=lzma.CHECK_CRC32, filters=_XZ),
    "lzma": lambda data, _: lzma.compress(data, lzma.FORMAT_ALONE, preset=0),
    "LZO": _lzop,
}


@pytest.mark.parametrize("method", REPACKED)
def test_a_kernel_packed_in_another_way(
    method: str, kernels: list[KernelTarget], tmp_path: Path
) -> None:
    """A stock image, its payload packed anew: the boot protocol's fields say where it is."""
    stock = kernel_image.find(kernels[0].release).vmlinuz
    data = stock.read_bytes()
    plain = unpack(data, "stock")
    packed = REPACKED[method](plain, tmp_path)
    if method != "gzip":
        packed += struct.pack("<I", len(plain))
    (offset,) = struct.unpack_from("<I", data, 0x248)
    head = bytearray(data[: (data[0x1F1] + 1) * 512 + offset])
    struct.pack_into("<I", head, 0x24C, len(packed))
    repacked = tmp_path / "vmlinuz"
    repacked.write_bytes(head + packed)
    assert image.read(repacked) == replace(image.cached(stock), origin=str(repacked))


def oracle_input() -> tuple[str, list[Symbol]]:
    """What `nm -n vmlinux` might print, and the symbols that kallsyms must hold for it."""
    source = random.Random(3)
    parts = ("alloc", "page", "_irq", "get_", ".cold", "0x12345678", "9", "__pfx_", "task")
    rows = [(0, "D", "__per_cpu_start"), (0x400, "d", "some_counter")]
    rows += [(0x1000, "D", "__per_cpu_end"), (BASE, "T", "_text"), (BASE, "T", "_stext")]
    for number in range(2000):
        name = "".join(source.choices(parts, k=4)) + str(number)
        rows.append((BASE + 0x1000 + 16 * number, source.choice("tTdDrB"), name))
    text = "".join(f"{address:016x} {letter} {name}\n" for address, letter, name in rows)
    # Per-CPU variables become type A, static or not: make_percpus_absolute().
    return text, [
        Symbol(address, "A" if address < BASE else letter, name) for address, letter, name in rows
    ]


def assembled(source: str, folder: Path) -> bytes:
    """The content of .rodata with the tables, linked where kallsyms believes to be."""
    (folder / "tables.S").write_text(source)
    (folder / "asm").mkdir(exist_ok=True)
    (folder / "asm/bitsperlong.h").write_text("#define BITS_PER_LONG 64\n")
    include = ["-I", str(folder), "-Wl,--defsym,_text=0xffffffff81000000"]
    script = ["-nostdlib", "-static", "-Wl,-Ttext-segment=0x400000", "-Wl,--build-id=none"]
    linked = folder / "tables"
    proc.run(["gcc", *include, *script, folder / "tables.S", "-o", linked])
    proc.run(["objcopy", "-O", "binary", "-j", ".rodata", linked, folder / "rodata"])
    return (folder / "rodata").read_bytes()


SCRIPTS = sorted(Path("/usr/lib").glob("linux-kbuild-*/scripts/kallsyms"))


def test_there_is_an_oracle() -> None:
    assert SCRIPTS, "no linux-kbuild package: the kernel headers need it"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.parts[3])
def test_the_kernels_own_encoder(script: Path, tmp_path: Path) -> None:
    text, symbols = oracle_input()
    (tmp_path / "map").write_text(text)
    options = ["--all-symbols", "--absolute-percpu"]
    if "base-relative" in proc.run([script], check=False).stderr:
        options.append("--base-relative")  # newer ones know no other form
    source = proc.run([script, *options, tmp_path / "map"]).stdout
    data = struct.pack("<Q", 0) * 8 + assembled(source, tmp_path)
    segments = [tables.Segment(BASE, 1 << 21, 0, len(data)), tables.Segment(0, 0x1000, 0, 0)]
    assert tables.decode(data, segments, "oracle") == symbols
