# SPDX-License-Identifier: GPL-2.0-only
"""kbridge kernels and kbridge symbols on the kernels that are installed here."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Kbridge

from kbridge import proc
from kbridge.kernels import image as kernel_image
from kbridge.kernels.target import KernelTarget


def test_the_installed_kernels(kbridge: Kbridge, kernels: list[KernelTarget]) -> None:
    for kernel in kernels:
        kernel_image.find(kernel.release)
    done = kbridge("kernels", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = {one["release"]: one for one in json.loads(done.stdout)["kernels"]}
    assert {one.release for one in kernels} <= set(found)
    for kernel in kernels:
        one = found[kernel.release]
        assert (one["linkable"], one["compiler_installed"]) == (True, True)
        assert one["headers"] == str(kernel.kdir)
        assert Path(one["image"]).is_file()
        # dpkg knows who brought the headers
        owner = proc.run(["dpkg", "-S", Path(one["headers"]).resolve()]).stdout
        assert owner.startswith(f"{one['headers_package']}:")
    assert sum(bool(one["default"]) for one in found.values()) == 1
    table = kbridge("kernels")
    assert (table.returncode, table.stderr) == (0, "")
    assert all(f"\n{kernel.release} " in table.stdout for kernel in kernels)
    assert max(map(len, table.stdout.splitlines())) <= 100


def test_nothing_is_fetched(
    kbridge: Kbridge, kernels: list[KernelTarget], temporary_cache: Path
) -> None:
    done = kbridge("kernels", "--json")
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["kernels"]) >= len(kernels)
    assert [path for path in temporary_cache.rglob("*") if path.is_file()] == []


def test_symbols_of_each_kernel(kbridge: Kbridge, kernels: list[KernelTarget]) -> None:
    for kernel in kernels:
        words = ("symbols", "--kernel", kernel.release)
        whole = kbridge(*words, "--all", "--format", "kallsyms").stdout.splitlines()
        assert len(whole) > 80_000
        linkable = kbridge(*words, "--format", "kallsyms").stdout.splitlines()
        # what is unambiguous is a part of all, but for the linker script's own names
        assert len(set(linkable) - set(whole)) <= 1
        assert len({line.split()[2] for line in linkable}) == len(linkable)
        table = kbridge(*words).stdout.splitlines()
        assert [re.sub(r"^(\S+ \S) .* ", r"\1 ", line) for line in table] == linkable
        exact = kbridge(*words, "vfs_read")
        assert exact.stdout in (line + "\n" for line in table)
        odd = kbridge(*words, "vfs_raed")
        assert (odd.returncode, odd.stdout) == (1, "")
        assert "vfs_read" in odd.stderr


def test_exports_are_those_of_module_symvers(kbridge: Kbridge, kernels: list[KernelTarget]) -> None:
    for kernel in kernels:
        done = kbridge("symbols", "--kdir", kernel.kdir, "--format", "json")
        found = json.loads(done.stdout)
        rows = [
            line.split("\t") for line in (kernel.kdir / "Module.symvers").read_text().splitlines()
        ]
        of_image = {row[1]: row[3] == "EXPORT_SYMBOL_GPL" for row in rows if row[2] == "vmlinux"}
        assert len(of_image) > 5000
        exported = {one["name"]: one["gpl_only"] for one in found if one["exported"]}
        aliases = {"pcpu_hot", "const_pcpu_hot"}
        assert {name: gpl for name, gpl in exported.items() if name not in aliases} == {
            name: gpl for name, gpl in of_image.items() if name not in aliases
        }


def test_whoever_stops_reading_is_not_told(kernels: list[KernelTarget]) -> None:
    assert kernels
    command = [sys.executable, "-m", "kbridge", "symbols", "--all"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 128 + 13


def test_an_image_is_enough(
    kbridge: Kbridge, kernels: list[KernelTarget], temporary_cache: Path
) -> None:
    """A kernel without headers: its symbols are known, what it exports is not."""
    image = kernel_image.find(kernels[-1].release, download=False).vmlinuz
    release = "1.0.0-no-headers"
    boot = temporary_cache / "images" / release / "boot"
    boot.mkdir(parents=True)
    (boot / f"vmlinuz-{release}").symlink_to(image)
    done = kbridge("symbols", "--kernel", release, "_printk")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"f{8}\w{8} T function  \?         _printk\n", done.stdout)


@pytest.mark.parametrize("words", [("--kernel", "6.1.0-none"), ("--kernel", "no release")])
def test_an_unknown_kernel(kbridge: Kbridge, words: tuple[str, ...]) -> None:
    done = kbridge("symbols", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"no headers for kernel {words[1]}" in done.stderr
    assert "Traceback" not in done.stderr
