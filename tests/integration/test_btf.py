# SPDX-License-Identifier: GPL-2.0-only
"""Sections, CRCs and types of the installed kernels' images, against other readers of them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from kbridge import btf
from kbridge.errors import KbridgeError
from kbridge.kernels import headers
from kbridge.kernels import image as kernel_image
from kbridge.kernels.target import KernelTarget
from kbridge.symbols import image, parts
from kbridge.vm import modules

STRUCTURE = re.compile(r"^\[(\d+)\] STRUCT '(\w+)' size=(\d+) vlen=(\d+)\n((?:\t.*\n)*)", re.M)
MEMBER = re.compile(r"^\t'(.*)' type_id=(\d+) bits_offset=(\d+)(?: bitfield_size=(\d+))?$", re.M)
FUNCTION = re.compile(r"^\[(\d+)\] FUNC '(\w+)' type_id=(\d+)", re.MULTILINE)


def dumped(folder: Path, types: bytes) -> str:
    """What bpftool reads there."""
    (folder / "vmlinux.btf").write_bytes(types)
    command = ["bpftool", "btf", "dump", "file", folder / "vmlinux.btf"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_every_structure_and_function(kernels: list[KernelTarget], tmp_path: Path) -> None:
    for kernel in kernels:
        found = parts.cached(kernel_image.find(kernel.release).vmlinuz)
        types = found.btf()
        assert types is not None
        text = dumped(tmp_path, found.types)
        structures = STRUCTURE.findall(text)
        assert len(structures) > 5_000
        for number, name, size, count, rows in structures:
            type_ = types.type(int(number))
            assert (type_.kind, type_.name, type_.link) == (btf.STRUCT, name, int(size))
            members = types.members(type_)
            assert len(members) == type_.rows == int(count)
            for member, (title, kind, offset, bits) in zip(
                members, MEMBER.findall(rows), strict=True
            ):
                assert member.name == title.replace("(anon)", "")
                assert member[1:] == (int(kind), int(offset), int(bits or 0)), name
        functions = {name for _, name, _ in FUNCTION.findall(text)}
        assert len(functions) > 30_000
        for name in sorted(functions)[::200]:
            assert re.search(rf"\b{name}\(.+\)$", types.prototype(types.find(name, btf.FUNC)))


def test_prototypes_are_c(kernels: list[KernelTarget], tmp_path: Path) -> None:
    """A compiler that knows the kernel's types takes every exported function's prototype."""
    for kernel in kernels:
        found = parts.cached(kernel_image.find(kernel.release).vmlinuz)
        types = found.btf()
        assert types is not None
        numbers = [types.find(name, btf.FUNC) for name in sorted(found.crcs)[::3]]
        prototypes = [types.prototype(number) for number in numbers if number]
        assert len(prototypes) > 1_500
        (tmp_path / "vmlinux.btf").write_bytes(found.types)
        dump = ["bpftool", "btf", "dump", "file", tmp_path / "vmlinux.btf", "format", "c"]
        known = subprocess.run(dump, capture_output=True, text=True, check=True).stdout
        source = tmp_path / "prototypes.c"
        source.write_text(known + "".join(f"extern {one};\n" for one in prototypes))
        command = ["gcc", "-std=gnu11", "-w", "-fno-builtin", "-fsyntax-only", source]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[:2000]


def test_crcs_are_those_of_module_symvers(kernels: list[KernelTarget]) -> None:
    for kernel in kernels:
        found = parts.cached(kernel_image.find(kernel.release).vmlinuz)
        known = headers.exports(kernel.kdir) or {}
        own = {name: one.crc for name, one in known.items() if one.module == "vmlinux"}
        assert len(own) > 5_000
        assert found.crcs == own


def test_sections(kernels: list[KernelTarget]) -> None:
    for kernel in kernels:
        vmlinuz = kernel_image.find(kernel.release).vmlinuz
        found, table = parts.cached(vmlinuz), image.cached(vmlinuz)
        for name, section in (
            ("vfs_read", ".text"),
            ("start_kernel", ".init.text"),
            ("linux_banner", ".rodata"),
            ("init_task", ".data"),
            ("__bss_start", ".bss"),
            ("__per_cpu_start", ".data..percpu"),
        ):
            assert found.section_of(table.resolve(name).address) == section
        assert found.section_of(0xFFFF_0000_0000_0000) == ""


def test_types_of_a_module(kernels: list[KernelTarget]) -> None:
    for kernel in kernels:
        its_image = kernel_image.find(kernel.release)
        base = parts.cached(its_image.vmlinuz).btf()
        assert base is not None
        file = modules.needed(its_image.modules, ("virtio_net",))[-1]
        types = parts.of_module(modules.content(file), "virtio_net", base)
        assert types is not None
        opened = types.prototype(types.find("virtnet_open", btf.FUNC))
        assert opened == "int virtnet_open(struct net_device *dev)"
        info = types.type(types.find("virtnet_info", btf.STRUCT))
        assert types.members(info)[0].name == "vdev"
        # types of the kernel are found through the module's
        assert types.all_named("list_head", btf.STRUCT) == base.all_named("list_head", btf.STRUCT)
    with pytest.raises(KbridgeError, match="damaged ELF"):
        parts.of_module(b"\x7fELF nothing", "it", base)


def test_the_cache_is_no_other_answer(
    kernels: list[KernelTarget], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vmlinuz = kernel_image.find(kernels[0].release).vmlinuz
    monkeypatch.setenv("KBRIDGE_CACHE", str(tmp_path))
    first, second = parts.read(vmlinuz), parts.cached(vmlinuz)
    assert first == second == parts.cached(vmlinuz)
    (file,) = (tmp_path / "parts").iterdir()
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(damaged)
    assert parts.cached(vmlinuz) == first
    assert file.read_bytes() != damaged
