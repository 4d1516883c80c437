# SPDX-License-Identifier: GPL-2.0-only
"""bzImages of every packing unpack; anything else is a clear error."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import struct
import tracemalloc
import zlib
from collections.abc import Callable

import lz4.block
import lzallright
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from kbridge.errors import KbridgeError
from kbridge.symbols.unpack import unpack

KERNEL = b"\x7fELF" + bytes(range(256)) * 400


def lz4_legacy(data: bytes) -> bytes:
    """As `lz4 -l` writes it, in blocks of at most 8 MiB; small ones here, two frames."""
    packed = b""
    for start in range(0, len(data), 50_000):
        if start in (0, 100_000):
            packed += struct.pack("<I", 0x184C2102)
        block = lz4.block.compress(data[start : start + 50_000], store_size=False)
        packed += struct.pack("<I", len(block)) + block
    return packed


def zstd_stream(data: bytes) -> bytes:
    """As the command writes it from a pipe: a checksum, and the frame does not tell the size."""
    packer = zstandard.ZstdCompressor(write_checksum=True, write_content_size=False)
    return packer.compress(data)


def lzop(data: bytes) -> bytes:
    """As lzop 1.04 does: checksums of the unpacked blocks, no name; sources in unpack.py."""
    header = struct.pack(">HHHBBIIIIB", 0x1040, 0x20A0, 0x0940, 3, 9, 0x01, 0, 0, 0, 0)
    packed = b"\x89LZO\0\r\n\x1a\n" + header + struct.pack(">I", zlib.adler32(header))
    for start in range(0, len(data), 60_000):
        block = data[start : start + 60_000]
        small = lzallright.LZOCompressor().compress(block)
        small = min(small, block, key=len)
        packed += struct.pack(">III", len(block), len(small), zlib.adler32(block)) + small
    return packed + bytes(4)


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "lz4": lz4_legacy,
    "zstd": zstd_stream,
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "bzip2": bz2.compress,
    "LZO": lzop,
}


def payload(method: str, data: bytes) -> bytes:
    packed = PACKERS[method](data)
    return packed if method == "gzip" else packed + struct.pack("<I", len(data))


def bzimage(packed: bytes, *, protocol: int = 0x20F, flags: int = 1) -> bytes:
    """A setup part of two sectors, then some loader code, then the payload."""
    setup = bytearray(3 * 512)
    setup[0x1F1] = 2
    setup[0x1FE:0x200] = b"\x55\xaa"
    setup[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", setup, 0x206, protocol)
    struct.pack_into("<H", setup, 0x236, flags)
    struct.pack_into("<II", setup, 0x248, 100, len(packed))
    return bytes(setup) + bytes(100) + packed + bytes(64)


@pytest.mark.parametrize("method", PACKERS)
def test_unpack(method: str) -> None:
    assert unpack(bzimage(payload(method, KERNEL)), "vmlinuz") == KERNEL


@pytest.mark.parametrize("method", PACKERS)
def test_wrong_length_trailer(method: str) -> None:
    image = payload(method, KERNEL)[:-4] + struct.pack("<I", len(KERNEL) - 1)
    with pytest.raises(KbridgeError, match="damaged"):
        unpack(bzimage(image), "vmlinuz")


@pytest.mark.parametrize("method", PACKERS)
def test_truncated_payload(method: str) -> None:
    packed = payload(method, KERNEL)
    with pytest.raises(KbridgeError, match="damaged"):
        unpack(bzimage(packed[: len(packed) // 2] + packed[-4:]), "vmlinuz")


@settings(deadline=None)
@given(st.sampled_from(sorted(PACKERS)), st.integers(0), st.integers(1, 255))
def test_damaged_byte(method: str, place: int, change: int) -> None:
    packed = bytearray(payload(method, KERNEL))
    packed[place % len(packed)] ^= change
    with contextlib.suppress(KbridgeError):
        # No checksum in some formats: a literal may change, the length may not.
        assert len(unpack(bzimage(bytes(packed)), "vmlinuz")) == len(KERNEL)


def test_no_byte_changes_without_a_word() -> None:
    """Where the method has checksums: those of LZO's blocks were passed over."""
    data = b"\x7fELF" + bytes(range(256)) * 2
    for method in PACKERS.keys() - {"lz4", "lzma"}:
        packed = bytearray(payload(method, data))
        for place in range(len(packed)):
            packed[place] ^= 0x10
            with contextlib.suppress(KbridgeError):
                assert unpack(bzimage(bytes(packed)), "vmlinuz") == data, (method, place)
            packed[place] ^= 0x10


def with_crc(image: bytes) -> bytearray:
    """As the kernel's build tool ended an image: Documentation/arch/x86/boot.rst."""
    whole = bytearray(image + bytes(-len(image) % 512 + 512))
    struct.pack_into("<I", whole, 0x3C, 0x300)  # where the PE header is
    whole[0x300:0x304] = b"PE\0\0"
    struct.pack_into("<I", whole, 0x1F4, (len(whole) - 1536) // 16)
    struct.pack_into("<I", whole, len(whole) - 4, zlib.crc32(whole[:-4]) ^ 0xFFFFFFFF)
    return whole


@pytest.mark.parametrize("method", ["lz4", "lzma"])
def test_the_image_has_a_checksum_where_its_payload_has_none(method: str) -> None:
    whole = with_crc(bzimage(payload(method, KERNEL)))
    assert zlib.crc32(whole) == 0xFFFFFFFF
    assert unpack(bytes(whole), "vmlinuz") == KERNEL
    struct.pack_into("<I", whole, 0x300 + 88, 1234)  # signed for secure boot
    struct.pack_into("<II", whole, 0x300 + 168, len(whole), 4)
    signed = bytes(whole) + b"cert"
    assert unpack(signed, "vmlinuz") == KERNEL
    for place in range(1536 + 110, len(whole), 17):
        damaged = changed(signed, place)
        with pytest.raises(KbridgeError, match="checksum is wrong"):
            unpack(damaged, "vmlinuz")
    new = bytes(whole[:-4]) + bytes(4)  # since v6.15 there is none
    assert unpack(new, "vmlinuz") == KERNEL


def changed(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :]


@pytest.mark.parametrize("method", sorted(PACKERS.keys() - {"lz4", "lzma", "LZO"}))
def test_a_checksum_that_is_cut_off(method: str) -> None:
    """All of the image is there, but not what says that it is right."""
    packed = payload(method, KERNEL)
    with pytest.raises(KbridgeError, match="damaged"):
        unpack(bzimage(packed[:-8] + packed[-4:]), "vmlinuz")


def test_a_bomb_is_not_unpacked() -> None:
    """A small file that says it is a large image: 1 GiB that is mostly zeros."""
    size = 1 << 30
    small = zstandard.ZstdCompressor().compress(b"\x7fELF" + bytes(1 << 20))
    with pytest.raises(KbridgeError, match="damaged"):
        unpack(bzimage(small + struct.pack("<I", size)), "vmlinuz")
    zeros = gzip.compress(bytes(60 << 20), 1)
    tracemalloc.start()
    try:
        with pytest.raises(KbridgeError, match="damaged"):  # no ELF file, from the start
            unpack(bzimage(zeros), "vmlinuz")
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


@given(st.binary(max_size=2000))
def test_any_bytes(data: bytes) -> None:
    with pytest.raises(KbridgeError, match="vmlinuz"):
        unpack(data, "vmlinuz")


@given(
    st.sampled_from(
        [b"\x02\x21\x4c\x18", b"\x28\xb5\x2f\xfd", b"BZh9", b"\x89LZO\0\r\n\x1a\n", b""]
    ),
    st.binary(),
)
def test_any_payload(magic: bytes, data: bytes) -> None:
    with pytest.raises(KbridgeError, match="vmlinuz"):
        unpack(bzimage(magic + data), "vmlinuz")


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (b"", "no bzImage setup header"),
        (bytes(0x38) + b"ARM\x64" + bytes(2000), "arm64"),
        (gzip.compress(b"x" * 5000), "a gzip file"),
        (b"MZ\0\0zimg" + bytes(2000), "zboot"),
        (bzimage(b"????" + bytes(50)), "unknown method"),
        (bzimage(payload("gzip", KERNEL), flags=0), "32-bit"),
        (bzimage(payload("gzip", KERNEL), protocol=0x207), "too old"),
        (bzimage(payload("gzip", KERNEL))[:-200], "cut off"),
        (bzimage(payload("gzip", b"no ELF file at all")), "damaged"),
        (bzimage(payload("xz", KERNEL)[:-4] + b"\xff" * 4), "damaged"),
    ],
)
def test_says_what_is_wrong(image: bytes, says: str) -> None:
    with pytest.raises(KbridgeError, match=says) as caught:
        unpack(image, "/boot/vmlinuz")
    assert caught.value.message.startswith("/boot/vmlinuz: ")
