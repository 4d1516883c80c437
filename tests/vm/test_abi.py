# SPDX-License-Identifier: GPL-2.0-only
"""kbridge run --other-build: on a kernel that a program was not built for, where nothing that it
uses is different, and not where something is.

"Another build" is made of the real image of a kernel: unpacked, with another release and build ID
in it, and with what else a test changes.  A program gets the names of that build.
"""

from __future__ import annotations

import ctypes.util
import re
import shlex
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy
import pytest
from conftest import Kbridge
from guest_shell import LIBRARIES
from vm.test_native import libraries, machine  # noqa: F401, a fixture

from kbridge import abi, btf, paths
from kbridge.kernels import headers
from kbridge.kernels import image as images
from kbridge.kernels.target import KernelTarget
from kbridge.symbols import image, parts
from kbridge.vm import program

if TYPE_CHECKING:
    from vm.conftest import Guest

SOURCE = Path(__file__).parent / "programs/abi.c"
KMOD = SOURCE.with_name("abi_kmod.c")


def build(kbridge: Kbridge, out: Path, *how: str | Path) -> Path:
    done = kbridge("build", SOURCE, "--kmod", KMOD, "-o", out, *how)
    assert done.returncode == 0, done.stderr
    return out


@dataclass(frozen=True)
class OtherBuild:
    """Of the kernel `release`, with the same length of both names."""

    own: images.KernelImage
    own_id: str
    release: str
    build_id: str
    cache: Path

    def disguise(self, path: Path) -> Path:
        """The program, as if it had been built for the other build."""
        note = program.note_of(path)
        assert note is not None
        digests = [
            abi.digest(release, build_id, note.interface)
            for release, build_id in (
                (self.own.release, self.own_id),
                (self.release, self.build_id),
            )
        ]
        content = path.read_bytes()
        for before, after in (
            (self.own.release, self.release),
            (self.own_id, self.build_id),
            digests,
        ):
            assert before.encode() + b"\0" in content
            content = content.replace(before.encode() + b"\0", after.encode() + b"\0")
        path.write_bytes(content)
        return path

    def install(self, change: Callable[[bytearray], None] = lambda _content: None) -> None:
        """Put its image where kbridge looks for it."""
        content = image.unpacked(self.own.vmlinuz)
        for before, after in (
            (self.own.release.encode(), self.release.encode()),
            (bytes.fromhex(self.own_id), bytes.fromhex(self.build_id)),
        ):
            assert before in content
            content = content.replace(before, after)
        changed = bytearray(content)
        change(changed)
        boot = self.cache / "images" / self.release / "boot"
        boot.mkdir(parents=True)
        (boot / f"vmlinuz-{self.release}").write_bytes(changed)


@pytest.fixture
def other(
    kernels: list[KernelTarget], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> OtherBuild:
    """Another build of the first kernel, in a cache that has all that the user's has."""
    own = images.find(kernels[0].release)
    own_id = image.cached(own.vmlinuz).build_id
    version, rest = own.release.split(".", 1)
    cache = tmp_path / "cache"
    (cache / "images").mkdir(parents=True)
    for entry in paths.cache("images").iterdir():
        (cache / "images" / entry.name).symlink_to(entry)
    for entry in paths.cache().iterdir():
        if entry.name != "images":
            (cache / entry.name).symlink_to(entry)
    monkeypatch.setenv("KBRIDGE_CACHE", str(cache))
    release = f"{int(version) - 1}.{rest}"
    return OtherBuild(own, own_id, release, own_id[::-1], cache)


def test_what_is_the_same_runs(
    guest: Guest, kbridge: Kbridge, other: OtherBuild, tmp_path: Path
) -> None:
    path = other.disguise(build(kbridge, tmp_path / "abi", "--kernel", other.own.release))
    other.install()
    words = ("--kernel", other.own.release)
    refused = guest(*words, path)
    assert refused.returncode == 125
    assert f"was built for kernel {other.release}, not {other.own.release}" in refused.stderr
    assert "--other-build" in refused.stderr
    done = guest(*words, "--other-build", path)
    assert (done.returncode, done.stdout) == (0, "ok   abi\n"), done.stderr


@pytest.mark.slow
def test_libkbridge_believes_only_what_was_compared_with_its_kernel(
    guest: Guest, kbridge: Kbridge, other: OtherBuild, tmp_path: Path
) -> None:
    path = other.disguise(build(kbridge, tmp_path / "abi", "--kernel", other.own.release))
    note = program.note_of(path)
    assert note is not None
    digest = abi.digest(other.release, other.build_id, note.interface)
    kernel = f"{other.own.release} {other.own_id}"
    tried = {
        f"{kernel} {digest}": 0,
        f"{kernel} {'0' * 32} {digest}": 0,
        "": 125,
        kernel: 125,
        f"{kernel} {'0' * 32}": 125,
        f"{kernel} {digest[:-1]}": 125,
        f"{kernel} {digest}0": 125,
        f"{other.release} {other.build_id} {digest}": 125,
        f"{other.own.release} {other.build_id} {digest}": 125,
        digest: 125,
    }
    lines = [f"{abi.VARIABLE}={shlex.quote(value)} {path}; echo status $?" for value in tried]
    share = [word for file in (*LIBRARIES, path) for word in ("--file", f"{file}:{file}")]
    shell = ["/bin/busybox", "sh", "-c", "; ".join(lines)]
    done = guest("--kernel", other.own.release, *share, *shell)
    statuses = [int(one) for one in re.findall(r"^status (\d+)$", done.stdout, re.MULTILINE)]
    assert statuses == list(tried.values()), done.stderr
    assert done.stderr.count("built for another kernel release than the running one") == 8


def test_another_version_is_refused_by_what_changed(
    kbridge: Kbridge, kernels: list[KernelTarget], tmp_path: Path
) -> None:
    first, last = kernels[0].release, kernels[-1].release
    assert first != last, "two kernels with headers are needed"
    path = build(kbridge, tmp_path / "abi", "--kernel", first)
    done = kbridge("run", "--kernel", last, "--other-build", path)
    assert (done.returncode, done.stdout) == (125, "")
    assert re.search(rf"different in {re.escape(last)} \(\w+\): struct \w+ changed: ", done.stderr)
    said = kbridge("run", "-v", "--kernel", last, "--other-build", path).stderr
    assert re.search(r"struct task_struct changed: size \d+ became \d+ \(member ", said)
    assert re.search(r"_printk has another CRC", said)
    # and the other way round
    path = build(kbridge, tmp_path / "back", "--kernel", last)
    done = kbridge("run", "--kernel", first, "--other-build", path)
    assert (done.returncode, "; struct " in done.stderr) == (125, True), done.stderr


def test_a_changed_structure_is_named(kbridge: Kbridge, other: OtherBuild, tmp_path: Path) -> None:
    def move_pid(content: bytearray) -> None:
        types = parts.cached(other.own.vmlinuz).btf()
        assert types is not None
        task = types.type(types.find("task_struct", btf.STRUCT))
        names = [member.name for member in types.members(task)]
        at = content.index(task.content) + 12 * names.index("pid") + 8
        (offset,) = struct.unpack_from("<I", content, at)
        struct.pack_into("<I", content, at, offset + 64)

    path = other.disguise(build(kbridge, tmp_path / "abi", "--kernel", other.own.release))
    other.install(move_pid)
    done = kbridge("run", "--kernel", other.own.release, "--other-build", path)
    assert done.returncode == 125
    assert "(" + other.own_id + "): struct task_struct changed: member pid moved\n" in done.stderr


@pytest.mark.slow
def test_a_changed_crc_and_prototype_are_named(
    kbridge: Kbridge, other: OtherBuild, kernels: list[KernelTarget], tmp_path: Path
) -> None:
    """The program is built with the headers of another build, of which one CRC differs."""
    kdir = tmp_path / "headers"
    kdir.mkdir()
    for entry in kernels[0].kdir.resolve().iterdir():
        if entry.name != "Module.symvers":
            (kdir / entry.name).symlink_to(entry)
    known = (kernels[0].kdir / "Module.symvers").read_text()
    changed = re.sub(r"^0x\w+\t_printk\t", "0x00000001\t_printk\t", known, flags=re.MULTILINE)
    assert changed != known
    (kdir / "Module.symvers").write_text(changed)

    def another_prototype(content: bytearray) -> None:
        held = parts.cached(other.own.vmlinuz)
        types = held.btf()
        assert types is not None
        strings_at = 24 + struct.unpack_from("<I", held.types, 16)[0]
        name = held.types.index(b"\0nr_processes\0", strings_at) + 1 - strings_at
        function = types.type(types.find("nr_processes", btf.FUNC))
        record = re.compile(
            re.escape(struct.pack("<I", name)) + rb"..\0." + struct.pack("<I", function.link)
        )
        (found,) = record.finditer(content)
        takes = types.type(types.find("do_sys_open", btf.FUNC)).link
        struct.pack_into("<I", content, found.end() - 4, takes)

    path = other.disguise(build(kbridge, tmp_path / "abi", "--kdir", kdir))
    other.install(another_prototype)
    done = kbridge("run", "--kernel", other.own.release, "--other-build", path)
    assert done.returncode == 125
    assert "nr_processes has another prototype; _printk has another CRC\n" in done.stderr


def test_what_cannot_be_compared_is_refused(
    kbridge: Kbridge, other: OtherBuild, tmp_path: Path
) -> None:
    words = ("run", "--kernel", other.own.release, "--other-build")
    path = other.disguise(build(kbridge, tmp_path / "abi", "--kernel", other.own.release))
    done = kbridge(*words, path)  # its own kernel's image is not there
    assert done.returncode == 125
    assert f"kernel {other.release} with build ID {other.build_id} is not here" in done.stderr
    script = ("--kernel", other.own.release, "--link", "script")
    path = other.disguise(build(kbridge, tmp_path / "script", *script))
    done = kbridge(*words, path)
    assert done.returncode == 125
    assert f"it holds addresses of kernel {other.release} (link=script" in done.stderr


@pytest.fixture
def small_headers(kernels: list[KernelTarget], tmp_path: Path) -> Path:
    """What of a header folder the comparison reads."""
    kdir = kernels[0].kdir.resolve()
    folder = tmp_path / "headers"
    for name in ("Module.symvers", "include/config/auto.conf", "include/generated/utsrelease.h"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(kdir / name, folder / name)
    (folder / "Makefile").write_text("include /usr/src/common/Makefile\n")
    (folder / "features.h").write_text(headers.file(kdir, abi.FEATURES) or "")
    return folder


@pytest.mark.slow
def test_on_the_kernel_that_runs(
    guest: Guest,
    kbridge: Kbridge,
    other: OtherBuild,
    machine: Path,  # noqa: F811
    small_headers: Path,
    tmp_path: Path,
) -> None:
    """kbridge itself runs in the guest, which is the machine whose kernel has kelevate."""
    release = other.own.release
    path = other.disguise(build(kbridge, tmp_path / "abi", "--kernel", release))
    other.install()
    site = machine / "site"
    for name in ("lz4", "zstandard"):
        shutil.copytree(Path(numpy.__file__).parents[1] / name, site / name)
    libbpf = Path(ctypes.util.find_library("bpf") or "")
    for file in libraries([Path("/usr/lib/x86_64-linux-gnu") / libbpf]):
        if not (machine / "libs" / file.name).exists():
            shutil.copy(file, machine / "libs")
    shutil.copy(Path("/usr/lib/x86_64-linux-gnu") / libbpf, machine / "libs")
    images_ = machine / "cache/images"
    shutil.copytree(other.cache / "images" / other.release, images_ / other.release)
    features = f"/usr/src/common/{abi.FEATURES}"
    share = {
        machine: "/py",
        path: path,
        other.own.vmlinuz: f"/boot/vmlinuz-{release}",
        small_headers: f"/usr/src/linux-headers-{release}",
        small_headers / "features.h": features,
        **{file: file for file in LIBRARIES},
    }
    run = "/py/bin/python -m kbridge run"
    script = f"""
        export PYTHONHOME=/py PYTHONPATH=/py/site KBRIDGE_CACHE=/py/cache
        export PATH=/py/bin:/bin LD_LIBRARY_PATH=/py/libs
        {run} {path}; echo "status $?"
        {run} --other-build {path}; echo "status $?"
        echo "CONFIG_MORE=y" >> /usr/src/linux-headers-{release}/include/config/auto.conf
        {run} --other-build {path}; echo "status $?"
        /bin/busybox rm /boot/vmlinuz-{release}
        {run} --other-build {path}; echo "status $?"
    """
    files = [word for host, inside in share.items() for word in ("--file", f"{host}:{inside}")]
    how = ["--kernel", release, "--memory", "3072", "--timeout", "400"]
    env = {"KBRIDGE_QEMU_CPU": "max"}  # NumPy needs x86-64-v2
    done = guest(*how, *files, "/bin/busybox", "sh", "-c", script, env=env)
    said = done.stdout + done.stderr
    statuses = re.findall(r"^status (\d+)$", done.stdout, re.MULTILINE)
    assert statuses == ["125", "0", "125", "125"], said
    assert done.stdout.count("ok   abi") == 1, said
    assert "the configuration differs" in done.stderr, said
    assert f"the image of the running kernel {release} (build ID {other.own_id})" in done.stderr
