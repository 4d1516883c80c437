# SPDX-License-Identifier: GPL-2.0-only
"""Unpacks the kernel image (vmlinux, an ELF file) out of an x86-64 bzImage (vmlinuz).

Not for reading what is in the image (image.py).  Layout of a bzImage: the kernel's
Documentation/arch/x86/boot.rst.
"""

from __future__ import annotations

import bz2
import io
import lzma
import struct
import zlib
from collections.abc import Callable
from typing import Protocol

from kbridge.errors import KbridgeError

_ELF = b"\x7fELF"

# A damaged length must not fill the memory: bytes of an image, at most, and times the bytes that
# it is packed in (kernels have some 3 to 10), where it is not small anyway.
_LARGEST_IMAGE, _LARGEST_RATIO, _SMALL_IMAGE = 1 << 30, 64, 64 << 20
_SMALLEST_HEADER = 0x268
_PAYLOAD_SINCE = 0x208  # boot protocol that has payload_offset and payload_length
_XLF_KERNEL_64 = 1
_SYSSIZE = 0x1F4  # place of the loaded part's size, in 16 bytes

# Source: arch/x86/boot/compressed/misc.c and lib/lz4/lz4_decompress: 'lz4 -l' frames.
_LZ4_MAGIC = 0x184C2102
_LZ4_BLOCK = 8 << 20

_PACKED_PIECE = 4096  # xz and bzip2 make some 10,000 bytes of one at most
_ZSTD_PIECE = 1024  # zstd some 40,000
_DICTIONARY = 256 << 20  # bytes that xz may use; xz_wrap.sh asks for 128 MiB at most

# Source: lib/decompress_unlzo.c, and flags in lzop's conf.h.
_LZOP_NEW = 0x0940
_LZOP_ADLER32_D, _LZOP_ADLER32_C, _LZOP_FILTER = 0x1, 0x2, 0x800
_LZOP_CRC32_D, _LZOP_CRC32_C, _LZOP_CRC32_HEADER = 0x100, 0x200, 0x1000
_LONGEST_MAGIC = 9

_OTHER_KINDS = {  # offset, magic -> what that file is
    (0x38, b"ARM\x64"): "an arm64 kernel image",
    (0x38, b"RISCV"): "a RISC-V kernel image",
    (4, b"zimg"): "an EFI zboot image of another architecture",
    (0, b"\x1f\x8b"): "a gzip file",
    (0, b"!<arch>"): "an archive",
}


class _Output:
    """The unpacked image as it grows; ValueError where it would be longer than it should."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._content = io.BytesIO()
        self._length = 0

    def add(self, piece: bytes) -> None:
        if self._length + len(piece) > self._size:
            raise ValueError("more than the length that the image says")
        self._length += self._content.write(piece)
        with self._content.getbuffer() as start:
            if not _ELF.startswith(bytes(start[: len(_ELF)])):
                raise ValueError("no ELF file")

    @property
    def left(self) -> int:
        return self._size - self._length

    def content(self) -> bytes:
        return self._content.getvalue()  # without a copy: it would be the most memory of all


def _lz4(payload: memoryview, output: _Output) -> None:
    import lz4.block

    at = 4
    while output.left > 0:
        (length,) = struct.unpack_from("<I", payload, at)
        at += 4
        if length == _LZ4_MAGIC:  # frames may follow each other
            continue
        if at + length > len(payload):
            raise ValueError("a block is cut off")
        try:
            output.add(
                lz4.block.decompress(payload[at : at + length], uncompressed_size=_LZ4_BLOCK)
            )
        except lz4.block.LZ4BlockError as problem:
            raise ValueError(str(problem)) from problem
        at += length


_Unpacker = Callable[[memoryview, _Output], None]


class _Decompressor(Protocol):
    """What zlib's, lzma's, bz2's and zstandard's have in common."""

    @property
    def eof(self) -> bool: ...
    def decompress(self, data: memoryview, /) -> bytes: ...


def _stream(start: Callable[[], _Decompressor], piece: int = _PACKED_PIECE) -> _Unpacker:
    """In small pieces, so that a damaged one cannot fill the memory."""

    def unpack(payload: memoryview, output: _Output) -> None:
        decompressor = start()
        for at in range(0, len(payload), piece):
            output.add(decompressor.decompress(payload[at : at + piece]))
            if decompressor.eof:
                return
        raise ValueError("its end, which has the checksum, is missing")

    return unpack


def _zstd(payload: memoryview, output: _Output) -> None:
    import zstandard

    def start() -> _Decompressor:
        return zstandard.ZstdDecompressor().decompressobj()

    try:
        _stream(start, _ZSTD_PIECE)(payload, output)
    except zstandard.ZstdError as problem:
        raise ValueError(str(problem)) from problem


def _lzo_flags(payload: memoryview) -> tuple[int, int]:
    """lzop's flags, and where its blocks start.

    Source: parse_header() in lib/decompress_unlzo.c, and lzop's own conf.h for the flags.
    """
    (version,) = struct.unpack_from(">H", payload, 9)
    new = version >= _LZOP_NEW
    at = 16 if new else 14  # after version, library's version, (version to extract,) method
    at += new  # level
    (flags,) = struct.unpack_from(">I", payload, at)
    at += 4 + 4 * bool(flags & _LZOP_FILTER) + 8 + 4 * new  # filter, mode, times
    at += 1 + payload[at]  # name
    checksum = zlib.crc32 if flags & _LZOP_CRC32_HEADER else zlib.adler32
    if struct.unpack_from(">I", payload, at) != (checksum(payload[9:at]),):
        raise ValueError("the header's checksum is wrong")
    return flags, at + 4


def _check_lzo(flags: int, block: bytes, sums: memoryview) -> None:
    """Raise ValueError unless the checksums of an unpacked block, in lzop's order, are right."""
    kinds = ((_LZOP_ADLER32_D, zlib.adler32), (_LZOP_CRC32_D, zlib.crc32))
    expected = [checksum(block) for flag, checksum in kinds if flags & flag]
    if sums != struct.pack(f">{len(expected)}I", *expected):
        raise ValueError("a block's checksum is wrong")


def _lzo(payload: memoryview, output: _Output) -> None:
    import lzallright

    flags, at = _lzo_flags(payload)
    decompress = lzallright.LZOCompressor().decompress
    while True:
        (size,) = struct.unpack_from(">I", payload, at)
        if not size:
            return
        (packed,) = struct.unpack_from(">I", payload, at + 4)
        at += 8
        sums = payload[
            at : at + 4 * bool(flags & _LZOP_ADLER32_D) + 4 * bool(flags & _LZOP_CRC32_D)
        ]
        at += len(sums)
        if packed < size:
            at += 4 * bool(flags & _LZOP_ADLER32_C) + 4 * bool(flags & _LZOP_CRC32_C)
        if size > output.left or at + packed > len(payload):
            raise ValueError("a block is cut off")
        block = bytes(payload[at : at + packed])
        try:
            block = decompress(block, size) if packed < size else block
        except lzallright.LZOError as problem:
            raise ValueError(str(problem)) from problem
        _check_lzo(flags, block, sums)
        output.add(block)
        at += packed


# LZMAError: also where a damaged header asks for a dictionary of 4 GiB.
_DAMAGED = (
    ValueError,
    EOFError,
    OSError,
    MemoryError,
    struct.error,
    zlib.error,
    lzma.LZMAError,
    IndexError,
)

_UNPACKERS: dict[bytes, tuple[str, _Unpacker]] = {
    struct.pack("<I", _LZ4_MAGIC): ("LZ4", _lz4),
    b"\x28\xb5\x2f\xfd": ("zstd", _zstd),
    b"\x1f\x8b": ("gzip", _stream(lambda: zlib.decompressobj(wbits=zlib.MAX_WBITS | 16))),
    b"\xfd7zXZ\0": ("xz", _stream(lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, _DICTIONARY))),
    b"\x5d\0\0": ("lzma", _stream(lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE, _DICTIONARY))),
    b"BZh": ("bzip2", _stream(bz2.BZ2Decompressor)),
    b"\x89LZO\0\r\n\x1a\n": ("LZO", _lzo),
}


_WITHOUT_CHECKSUM = frozenset({"LZ4", "lzma"})  # as the kernel's build packs with them


def _is_changed(vmlinuz: bytes) -> bool:
    """Whether the image's own CRC says so, as it was before it was signed for secure boot.

    Source: Documentation/arch/x86/boot.rst, 'The Image Checksum', until Linux commit 9c54baab4401
    ("x86/boot: Drop CRC-32 checksum and the build tool that generates it", v6.15), since which the
    end is padding.  A signature changes two fields of the PE header, which were 0.
    """
    end = ((vmlinuz[0x1F1] or 4) + 1) * 512 + 16 * _word(vmlinuz, _SYSSIZE)
    header = _word(vmlinuz, 0x3C)
    start = bytearray(vmlinuz[: min(header + 176, end)])
    if start[header : header + 4] == b"PE\0\0":
        start[header + 88 : header + 92] = bytes(4)  # CheckSum
        start[header + 168 : header + 176] = bytes(8)  # where the certificates are
    rest = memoryview(vmlinuz)[len(start) : end]
    if len(vmlinuz) < end or not any(rest[-4:]):
        return False  # without the place of the CRC, or without a CRC
    return zlib.crc32(rest, zlib.crc32(start)) != 0xFFFFFFFF


def _word(content: bytes, at: int) -> int:
    (found,) = struct.unpack_from("<I", content, at)
    return int(found)


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


def _payload(vmlinuz: bytes, name: str) -> memoryview:
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
    return memoryview(vmlinuz)[start : start + length]


def unpack(vmlinuz: bytes, name: str) -> bytes:
    """The unpacked kernel: an ELF file, maybe with the kernel's relocations after its end.

    `name` is for messages.  Raises KbridgeError when `vmlinuz` is no x86-64 bzImage, is
    damaged, or is packed in a way that kbridge does not know.
    """
    payload = _payload(vmlinuz, name)
    start = bytes(payload[:_LONGEST_MAGIC])
    method, unpacker = next(
        (known for magic, known in _UNPACKERS.items() if start.startswith(magic)), ("", None)
    )
    if unpacker is None:
        raise KbridgeError(
            f"{name}: packed with an unknown method ({start[:4].hex()})",
            hint="kbridge unpacks LZ4, zstd, gzip, xz, lzma, bzip2 and LZO; give the vmlinux",
        )
    if method in _WITHOUT_CHECKSUM and _is_changed(vmlinuz):
        raise KbridgeError(
            f"{name}: its checksum is wrong: it is damaged, or was changed after it was built",
            hint="fetch the kernel image again, or give its vmlinux (the kernel's "
            "scripts/extract-vmlinux unpacks it)",
        )
    # The build appends the length of the unpacked image (scripts/Makefile.lib, size_append);
    # gzip ends with it anyway.
    (size,) = struct.unpack_from("<I", payload, len(payload) - 4)
    damaged = KbridgeError(
        f"{name}: the {method} payload is damaged", hint="fetch the kernel image again"
    )
    if size > min(_LARGEST_IMAGE, max(_SMALL_IMAGE, _LARGEST_RATIO * len(payload))):
        raise damaged
    output = _Output(size)
    try:
        unpacker(payload[:-4] if method != "gzip" else payload, output)
    except _DAMAGED as problem:
        raise damaged from problem
    content = output.content()
    if output.left or not content:
        raise damaged
    return content
