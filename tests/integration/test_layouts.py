# SPDX-License-Identifier: GPL-2.0-only
"""Kernel structures in a kmod's object are laid out as those in the kernel: BTF against BTF.

A macro of the configuration that is not as it was in the kernel's own build (or a flag, such as
the one for short enums) shifts members in silence.  pahole makes BTF of the object's DWARF, as it
did of the kernel's; bpftool reads both.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kbridge import kcompile, options, proc
from kbridge.kernels import image as kernel_image
from kbridge.kernels import kbuild
from kbridge.kernels.target import KernelTarget
from kbridge.symbols.unpack import unpack
from kbridge.verbs import build

HEADERS = """
    linux/module.h linux/sched.h linux/sched/signal.h linux/mm.h linux/fs.h linux/dcache.h
    linux/netdevice.h linux/skbuff.h linux/jump_label.h linux/static_call.h linux/tracepoint.h
    linux/srcu.h linux/percpu-refcount.h net/sock.h net/tcp.h linux/cgroup.h linux/pid.h
    linux/cred.h linux/fdtable.h linux/fs_struct.h linux/nsproxy.h linux/blkdev.h linux/blk-mq.h
    linux/device.h linux/device/bus.h linux/device/driver.h linux/workqueue.h linux/hrtimer.h
    linux/xarray.h linux/trace_events.h linux/irq.h linux/irqdesc.h linux/memcontrol.h
    linux/seq_file.h linux/tty.h linux/pci.h linux/crypto.h linux/key.h linux/bpf.h
    linux/perf_event.h linux/dynamic_debug.h linux/user_namespace.h
"""
# the first row are those that hold a static key, or entries about one
STRUCTS = """
    static_key static_key_true static_key_false jump_entry static_call_key tracepoint module
    task_struct mm_struct vm_area_struct signal_struct sighand_struct files_struct fs_struct
    nsproxy pid cred user_namespace thread_struct pt_regs perf_event
    file inode dentry super_block address_space seq_file file_operations inode_operations
    page folio zone pglist_data lruvec mem_cgroup xarray srcu_struct percpu_ref percpu_counter
    net net_device sk_buff socket sock inet_sock tcp_sock proto notifier_block
    bio gendisk block_device request request_queue device device_driver bus_type kobject kset
    cgroup cgroup_subsys work_struct timer_list hrtimer mutex rw_semaphore completion
    irq_desc irq_data trace_event_call bpf_prog tty_struct pci_dev crypto_tfm key
"""

Types = dict[int, dict[str, Any]]
# bit offset, width of a bit field (else 0), name, type
Member = tuple[int, int, str, str]
Layout = tuple[int, tuple[Member, ...]]


def source(first: str = "") -> str:
    included = "".join(f"#include <{name}>\n" for name in HEADERS.split())
    members = "".join(f"\t\tstruct {name} *{name};\n" for name in STRUCTS.split())
    return (
        f"{first}{included}void *kb_layouts(void *any);\nvoid *kb_layouts(void *any)\n{{\n"
        f"\tunion {{\n{members}\t}} *all = any;\n\n\treturn all->page;\n}}\n"
    )


def read(file: Path) -> Types:
    text = proc.run(["bpftool", "--json", "btf", "dump", "file", file]).stdout
    return {one["id"]: one for one in json.loads(text)["types"]}


def is_anonymous(one: dict[str, Any]) -> bool:
    return one["kind"] in ("STRUCT", "UNION") and one["name"] == "(anon)"


def describe(types: Types, number: int) -> str:
    """What decides a type's layout; structures and pointers only by their names."""
    if not number:
        return "void"
    one = types[number]
    if one["kind"] == "ARRAY":
        return f"[{one['nr_elems']}] {describe(types, one['type_id'])}"
    if one["kind"] in ("CONST", "VOLATILE", "RESTRICT", "TYPEDEF", "TYPE_TAG"):
        return describe(types, one["type_id"])
    if is_anonymous(one):
        return f"{one['kind']} {one['size']} {sorted(members(types, number))}"
    if one["kind"] == "INT":  # gcc and clang spell their names in different ways
        return f"INT {one['size']} {one['encoding']}"
    return f"{one['kind']} {one['name']} {one.get('size')}" if one["kind"] != "PTR" else "*"


def members(types: Types, number: int, base: int = 0) -> Iterator[Member]:
    """The members of a structure, those of anonymous ones within it at their place in it."""
    for member in types[number]["members"]:
        at, inner = base + member["bits_offset"], member["type_id"]
        while inner and types[inner]["kind"] in ("CONST", "VOLATILE"):
            inner = types[inner]["type_id"]
        if member["name"] == "(anon)" and is_anonymous(types[inner]):
            yield from members(types, inner, at)
        else:
            yield at, member.get("bitfield_size", 0), member["name"], describe(types, inner)


def layouts(types: Types) -> dict[str, list[Layout]]:
    """Every named structure; a name may stand for several, in sources that do not meet."""
    found: dict[str, list[Layout]] = {}
    for number, one in types.items():
        if one["kind"] == "STRUCT" and not is_anonymous(one):
            found.setdefault(one["name"], []).append((one["size"], tuple(members(types, number))))
    return found


@functools.cache
def kernel_layouts(release: str, folder: Path) -> dict[str, list[Layout]]:
    vmlinuz = kernel_image.find(release).vmlinuz
    image = folder / f"vmlinux-{release}"
    image.write_bytes(unpack(vmlinuz.read_bytes(), str(vmlinuz)))
    try:
        return layouts(read(image))
    finally:
        image.unlink()  # some 50 MiB


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images")


def kmod_layouts(
    kernel: KernelTarget, code: str, text: str, folder: Path
) -> dict[str, list[Layout]]:
    path = folder / "layouts.c"
    path.write_text(text)
    kmod = kcompile.Source(path)
    steps = kcompile.source_steps(kbuild.flags(kernel), kmod, folder, module="m", code=code)
    build.compile_kmod(steps, path, {})
    proc.run(["pahole", "--btf_encode", steps.object])
    return layouts(read(steps.object))


def different(mine: dict[str, list[Layout]], kernel: dict[str, list[Layout]]) -> set[str]:
    """The structures that the kernel has by that name, but nowhere with that layout."""
    return {
        name
        for name, here in mine.items()
        if name in kernel and not any(layout in kernel[name] for layout in here)
    }


@pytest.mark.parametrize("llvm", ["", "-16"], ids=["gcc", "clang"])
@pytest.mark.parametrize("code", options.CODE_MODELS)
def test_layouts_are_the_kernels(
    kernels: list[KernelTarget],
    code: str,
    llvm: str,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LLVM", llvm)
    assert len(STRUCTS.split()) >= 50
    for kernel in kernels:
        mine = kmod_layouts(kernel, code, source(), tmp_path)
        theirs = kernel_layouts(kernel.release, images)
        for name in STRUCTS.split():
            assert name in mine
            assert len(theirs.get(name, ())) == 1, f"{kernel.release}: one {name} to compare with"
        assert not different(mine, theirs), kernel.release


@pytest.mark.parametrize("code", options.CODE_MODELS)
def test_the_comparison_sees_a_macro_that_is_missing(
    kernels: list[KernelTarget], code: str, images: Path, tmp_path: Path
) -> None:
    text = source("#undef CONFIG_JUMP_LABEL\n")
    mine = kmod_layouts(kernels[-1], code, text, tmp_path)
    found = different(mine, kernel_layouts(kernels[-1].release, images))
    assert {"static_key", "static_key_false", "tracepoint", "module"} <= found
    assert "task_struct" not in found
