# SPDX-License-Identifier: GPL-2.0-only
"""Unpacks the kernel image (vmlinux, an ELF file) out of an x86-64 bzImage (vmlinuz).

Not for reading what is in the image (image.py).  Layout of a bzImage: the kernel's
Documentation/arch/x86/boot.rst.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable

from kbridge.errors import KbridgeError

_LARGEST_IMAGE = 1 << 30  # bytes; a damaged length must not fill the memory
_SMALLEST_HEADER = 0x268
_PAYLOAD_SINCE = 0x208  # boot protocol that has payload_offset and payload_length
_XLF_KERNEL_64 = 1

# Source: arch/x86/boot/compressed/misc.c and lib/lz4/lz4_decompress: 'lz4 -l' frames.
_LZ4_MAGIC = 0x184C2102
_LZ4_BLOCK = 8 << 20

_OTHER_KINDS = {  # offset, magic -> what that file is
    (0x38, b"ARM\x64"): "an arm64 kernel image",
    (0x38, b"RISCV"): "a RISC-V kernel image",
    (4, b"zimg"): "an EFI zboot image of another architecture",
    (0, b"\x1f\x8b"): "a gzip file",
    (0, b"!<arch>"): "an archive",
}


def _lz4(payload: bytes, size: int) -> bytes:
    import lz4.block

    blocks, at, left = [], 4, size
    while left > 0:
        (length,) = struct.unpack_from("<I", payload, at)
        at += 4
        if length == _LZ4_MAGIC:  # frames may follow each other
            continue
        if at + length > len(payload):
            raise ValueError("a block is cut off")
        try:
            block = lz4.block.decompress(payload[at : at + length], uncompressed_size=_LZ4_BLOCK)
        except lz4.block.LZ4BlockError as problem:
            raise ValueError(str(problem)) from problem
        blocks.append(block)
        at += length
        left -= len(block)
    return b"".join(blocks)


def _zstd(payload: bytes, size: int) -> bytes:
    import zstandard

    try:
        # The frame does not hold its size: kbuild pipes the image into zstd.
        return zstandard.ZstdDecompressor().stream_reader(payload).read(size + 1)
    except zstandard.ZstdError as problem:
        raise ValueError(str(problem)) from problem


def _gzip(payload: bytes, size: int) -> bytes:
    return zlib.decompressobj(wbits=zlib.MAX_WBITS | 16).decompress(payload, size + 1)


def _xz(payload: bytes, size: int) -> bytes:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(payload, size + 1)


def _lzma(payload: bytes, size: int) -> bytes:
    return lzma.LZMADecompressor(lzma.FORMAT_ALONE).decompress(payload, size + 1)


def _bzip2(payload: bytes, size: int) -> bytes:
    return bz2.BZ2Decompressor().decompress(payload, size + 1)


# MemoryError: a damaged lzma header can ask for a dictionary of 4 GiB.
_DAMAGED = (ValueError, EOFError, OSError, MemoryError, struct.error, zlib.error, lzma.LZMAError)

_Unpacker = Callable[[bytes, int], bytes]
_UNPACKERS: dict[bytes, tuple[str, _Unpacker | None]] = {
    struct.pack("<I", _LZ4_MAGIC): ("LZ4", _lz4),
    b"\x28\xb5\x2f\xfd": ("zstd", _zstd),
    b"\x1f\x8b": ("gzip", _gzip),
    b"\xfd7zXZ\0": ("xz", _xz),
    b"\x5d\0\0": ("lzma", _lzma),
    b"BZh": ("bzip2", _bzip2),
    b"\x89LZO": ("LZO", None),
}


def _not_a_bzimage(vmlinuz: bytes, name: str) -> KbridgeError:
    for (offset, magic), kind in _OTHER_KINDS.items():
        if vmlinuz[offset : offset + len(magic)] == magic:
            return KbridgeError(
                f"{name}: {kind}, not an x86-64 bzImage",
                hint="kbridge supports x86-64 kernels; give a vmlinuz or a vmlinux",
            )
    return KbridgeError(
        f"{name}: not a kernel image (no bzImage setup header)",
        hint="give a vmlinuz or a vmlinux of an x86-64 kernel",
    )


def _payload(vmlinuz: bytes, name: str) -> bytes:
    """The packed image with its length trailer, as the setup header locates it."""
    if (
        len(vmlinuz) < _SMALLEST_HEADER
        or vmlinuz[0x1FE:0x200] != b"\x55\xaa"
        or vmlinuz[0x202:0x206] != b"HdrS"
    ):
        raise _not_a_bzimage(vmlinuz, name)
    (protocol,) = struct.unpack_from("<H", vmlinuz, 0x206)
    (flags,) = struct.unpack_from("<H", vmlinuz, 0x236)
    if protocol < _PAYLOAD_SINCE:
        raise KbridgeError(f"{name}: boot protocol {protocol:#x} is too old (before 2.6.26)")
    if not flags & _XLF_KERNEL_64:
        raise KbridgeError(f"{name}: a 32-bit x86 kernel", hint="kbridge supports x86-64 kernels")
    offset, length = struct.unpack_from("<II", vmlinuz, 0x248)
    start = ((vmlinuz[0x1F1] or 4) + 1) * 512 + offset
    if length < 8 or start + length > len(vmlinuz):
        raise KbridgeError(
            f"{name}: the file is cut off: it has {len(vmlinuz)} bytes, "
            f"its header says {start + length}",
            hint="fetch the kernel image again",
        )
    return vmlinuz[start : start + length]


def unpack(vmlinuz: bytes, name: str) -> bytes:
    """The unpacked kernel: an ELF file, maybe with the kernel's relocations after its end.

    `name` is for messages.  Raises KbridgeError when `vmlinuz` is no x86-64 bzImage, is
    damaged, or is packed in a way that kbridge does not know.
    """
    payload = _payload(vmlinuz, name)
    method, unpacker = next(
        (known for magic, known in _UNPACKERS.items() if payload.startswith(magic)), ("", None)
    )
    if unpacker is None:
        raise KbridgeError(
            f"{name}: packed with {method or 'an unknown method'} ({payload[:4].hex()})",
            hint="kbridge unpacks LZ4, zstd, gzip, xz, lzma and bzip2 kernels; give the vmlinux",
        )
    # The build appends the length of the unpacked image (scripts/Makefile.lib, size_append);
    # gzip ends with it anyway.
    (size,) = struct.unpack_from("<I", payload, len(payload) - 4)
    damaged = KbridgeError(
        f"{name}: the {method} payload is damaged", hint="fetch the kernel image again"
    )
    if size > _LARGEST_IMAGE:
        raise damaged
    try:
        image = unpacker(payload[:-4] if method != "gzip" else payload, size)
    except _DAMAGED as problem:
        raise damaged from problem
    if len(image) != size or not image.startswith(b"\x7fELF"):
        raise damaged
    return image
