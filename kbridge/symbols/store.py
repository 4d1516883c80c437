# SPDX-License-Identifier: GPL-2.0-only
"""Keeps a symbol table in one file that loads quickly; a damaged file is no table.

Not for deciding which file belongs to which kernel (image.py).
"""

from __future__ import annotations

import json
import sys
import zlib
from array import array

from kbridge.symbols.table import Symbol, SymbolTable

_MAGIC = b"kbridge symbols 1\n"  # to be raised with every change of the form


def _little_endian(addresses: array[int]) -> array[int]:
    if sys.byteorder == "big":
        addresses.byteswap()
    return addresses


def dump(table: SymbolTable) -> bytes:
    """Magic line, CRC line, header line (JSON), then addresses, type letters and names."""
    header = {
        "count": len(table.symbols),
        "release": table.release,
        "build_id": table.build_id,
        "origin": table.origin,
    }
    content = b"".join(
        (
            json.dumps(header).encode() + b"\n",
            _little_endian(array("Q", [one.address for one in table.symbols])).tobytes(),
            "".join([one.type for one in table.symbols]).encode("ascii"),
            "\n".join([one.name for one in table.symbols]).encode("ascii"),
        )
    )
    return _MAGIC + b"%08x\n" % zlib.crc32(content) + content


def load(data: bytes) -> SymbolTable | None:
    """The table that `dump` wrote, or None when the bytes are anything else."""
    start = len(_MAGIC) + 9
    content = data[start:]
    if data[:start] != _MAGIC + b"%08x\n" % zlib.crc32(content):
        return None
    line, _, body = content.partition(b"\n")
    try:
        header = json.loads(line)
        count = header["count"]
        addresses = array("Q")
        addresses.frombytes(body[: 8 * count])
        types = body[8 * count : 9 * count].decode("ascii")
        names = body[9 * count :].decode("ascii").split("\n") if count else []
        make = Symbol._make
        symbols = [
            make(fields) for fields in zip(_little_endian(addresses), types, names, strict=True)
        ]
        return SymbolTable(symbols, header["release"], header["build_id"], header["origin"])
    except (ValueError, KeyError, TypeError):
        return None
