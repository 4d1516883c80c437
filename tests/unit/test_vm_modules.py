# SPDX-License-Identifier: GPL-2.0-only
"""Which kernel modules go into the guest, in which order."""

from __future__ import annotations

import gzip
import lzma
from pathlib import Path

import pytest
import zstandard

from kbridge.errors import KbridgeError, UsageError
from kbridge.vm import modules

DEP = """\
kernel/drivers/virtio/virtio_ring.ko.xz:
kernel/drivers/virtio/virtio.ko.xz: kernel/drivers/virtio/virtio_ring.ko.xz
kernel/drivers/virtio/virtio_pci.ko.xz: kernel/drivers/virtio/virtio.ko.xz \
kernel/drivers/virtio/virtio_ring.ko.xz
kernel/drivers/char/virtio_console.ko.xz: kernel/drivers/virtio/virtio.ko.xz \
kernel/drivers/virtio/virtio_ring.ko.xz
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "modules.dep").write_text(DEP)
    (tmp_path / "modules.builtin").write_text("kernel/lib/crc32.ko\n")
    return tmp_path


def test_every_module_behind_those_it_needs(folder: Path) -> None:
    names = [path.name.partition(".")[0] for path in modules.needed(folder)]
    assert names == ["virtio_ring", "virtio", "virtio_pci", "virtio_console"]


def test_what_is_built_in_needs_no_file(folder: Path) -> None:
    lines = ("kernel/drivers/virtio/virtio_pci.ko", "kernel/drivers/char/virtio-console.ko")
    (folder / "modules.builtin").write_text("\n".join(lines))
    (folder / "modules.dep").unlink()
    assert modules.needed(folder) == []
    assert modules.needed(None) == []


def test_what_is_missing(folder: Path) -> None:
    with pytest.raises(KbridgeError, match="has no nowhere"):
        modules.needed(folder, ("nowhere",))
    (folder / "modules.dep").unlink()
    with pytest.raises(KbridgeError, match=r"modules\.dep") as caught:
        modules.needed(folder)
    assert "depmod" in (caught.value.hint or "")


def test_what_a_user_asks_for(folder: Path) -> None:
    assert modules.requested(folder, ["virtio-pci", "crc32"]) == ("virtio_pci", "crc32")
    assert modules.requested(None, []) == ()
    with pytest.raises(UsageError, match=r"--module virtio_pcy: .* no such module") as caught:
        modules.requested(folder, ["virtio_pcy"])
    assert caught.value.hint == "did you mean virtio_pci?"
    with pytest.raises(KbridgeError, match="no modules of the kernel"):
        modules.requested(None, ["crc32"])


def test_compressed_modules(tmp_path: Path) -> None:
    data = b"\x7fELF module" * 1000
    packed = {
        "a.ko": data,
        "a.ko.xz": lzma.compress(data),
        "a.ko.gz": gzip.compress(data),
        "a.ko.zst": zstandard.ZstdCompressor().compress(data),
    }
    for name, content in packed.items():
        (tmp_path / name).write_bytes(content)
        assert modules.content(tmp_path / name) == data
    for name, content in (
        ("b.ko.xz", b"no"),
        ("b.ko.gz", b"no"),
        ("b.ko.zst", b"no"),
        ("b.lz", b""),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(KbridgeError, match="cannot unpack"):
            modules.content(tmp_path / name)
