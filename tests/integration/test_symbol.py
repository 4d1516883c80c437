# SPDX-License-Identifier: GPL-2.0-only
"""kbridge symbol on the installed kernels, against other readers of the same files."""

from __future__ import annotations

import json
import re
from typing import Any

from conftest import Kbridge

from kbridge.kernels import image as kernel_image
from kbridge.kernels.target import KernelTarget
from kbridge.symbols import image


def asked(kbridge: Kbridge, kernel: KernelTarget, name: str) -> dict[str, Any]:
    done = kbridge("symbol", name, "--kernel", kernel.release, "--json")
    assert (done.returncode, done.stderr) == (0, ""), name
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_names_of_every_kind(kbridge: Kbridge, kernels: list[KernelTarget]) -> None:
    for kernel in kernels:
        table = image.cached(kernel_image.find(kernel.release).vmlinuz)
        for name, kind, section, exported in (
            ("_printk", "function", ".text", True),
            ("vfs_read", "function", ".text", False),
            ("start_kernel", "function", ".init.text", False),
            ("init_task", "data", ".data", True),
            ("runqueues", "per-CPU", ".data..percpu", False),
        ):
            found = asked(kbridge, kernel, name)
            (place,) = found["definitions"]
            assert int(place["address"], 16) == table.resolve(name).address
            assert (found["type"], place["section"]) == (kind, section)
            assert (found["exported"], bool(found["crc"])) == (exported, exported)
        assert asked(kbridge, kernel, "runqueues")["declarations"] == ["struct rq runqueues"]


def test_an_export_of_a_module(kbridge: Kbridge, kernels: list[KernelTarget]) -> None:
    for kernel in kernels:
        symvers = (kernel.kdir / "Module.symvers").read_text()
        (crc,) = re.findall(r"^(0x\w+)\tnf_conntrack_find_get\t", symvers, re.MULTILINE)
        found = asked(kbridge, kernel, "nf_conntrack_find_get")
        assert (found["definitions"], found["exporter"]) == ([], "nf_conntrack")
        assert (found["crc"], found["gpl_only"], found["linkable"]) == (crc, True, True)
        assert "struct nf_conntrack_tuple_hash *" in found["declarations"][0]


def test_what_is_not_there(kbridge: Kbridge) -> None:
    done = kbridge("symbol", "vfs_raed")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.search(r"has no symbol vfs_raed\n.*near: .*\bvfs_read\b", done.stderr)
    assert kbridge("symbol").returncode == 2
    assert kbridge("symbol", "two words").returncode == 2
