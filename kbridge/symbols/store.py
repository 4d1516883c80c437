# SPDX-License-Identifier: GPL-2.0-only
"""Keeps a symbol table in one file that is ready to use as it is; a damaged file is no table.

A build asks for some dozen of 90,000 names, so nothing is unpacked before somebody asks: names are
found by bisection in the file's own index.

Not for deciding which file belongs to which kernel (image.py).
"""

from __future__ import annotations

import bisect
import itertools
import json
import sys
import zlib
from array import array
from collections.abc import Iterator, Sequence
from typing import overload

from kbridge.symbols.table import Columns, Symbol, SymbolTable

_MAGIC = b"kbridge symbols 2\n"  # to be raised with every change of the form


class _Stored(Sequence[Symbol]):
    """The symbols in a file's content: columns of addresses, type letters and names, and of the
    symbols' numbers in the order of their names."""

    def __init__(self, body: bytes, count: int) -> None:
        if count:
            view = memoryview(body)
            self._addresses = _column("Q", view[: 8 * count])
            self._starts = _column("I", view[8 * count : 12 * count + 4])
            self._order = _column("I", view[12 * count + 4 : 16 * count + 4])
            self._types = body[16 * count + 4 : 17 * count + 4].decode("ascii")
            self._names = body[17 * count + 4 :]
        self._count = count

    def __len__(self) -> int:
        return self._count

    def _name(self, index: int) -> bytes:
        return self._names[self._starts[index] : self._starts[index + 1] - 1]

    def _symbol(self, index: int) -> Symbol:
        name = self._name(index).decode("ascii")
        return Symbol(self._addresses[index], self._types[index], name)

    @overload
    def __getitem__(self, index: int) -> Symbol: ...
    @overload
    def __getitem__(self, index: slice) -> list[Symbol]: ...
    def __getitem__(self, index: int | slice) -> Symbol | list[Symbol]:
        if isinstance(index, slice):
            return [self._symbol(one) for one in range(*index.indices(self._count))]
        return self._symbol(range(self._count)[index])

    def columns(self) -> Columns:
        if not self._count:
            return Columns([], "", [])
        names = self._names.decode("ascii").split("\n")
        return Columns(self._addresses, self._types, names[: self._count])

    def __iter__(self) -> Iterator[Symbol]:
        return iter(self.columns())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def named(self, name: str) -> list[Symbol]:
        """Every symbol of that name, in the order of the table."""
        if not self._count:
            return []
        wanted = name.encode("utf-8", "surrogatepass")  # what is not ASCII is no symbol
        start = bisect.bisect_left(range(self._count), wanted, key=self._name_in_order)
        end = bisect.bisect_right(range(self._count), wanted, lo=start, key=self._name_in_order)
        return [self._symbol(index) for index in sorted(self._order[start:end])]

    def _name_in_order(self, place: int) -> bytes:
        return self._name(self._order[place])


def _column(form: str, content: memoryview) -> array[int]:
    values = array(form, bytes(content))
    if sys.byteorder == "big":
        values.byteswap()
    return values


def _bytes(form: str, values: Sequence[int]) -> bytes:
    return _column(form, memoryview(array(form, values)).cast("B")).tobytes()


def dump(table: SymbolTable) -> bytes:
    """Magic line, CRC line, header line (JSON), then the columns of `_Stored`."""
    columns = Columns.of(table.symbols)
    header = {
        "count": len(columns),
        "release": table.release,
        "build_id": table.build_id,
        "origin": table.origin,
    }
    names = [name.encode("ascii") for name in columns.names]
    starts = itertools.accumulate((len(name) + 1 for name in names), initial=0)
    content = b"".join(
        (
            json.dumps(header).encode() + b"\n",
            _bytes("Q", columns.addresses),
            _bytes("I", list(starts)),
            _bytes("I", sorted(range(len(names)), key=names.__getitem__)),
            columns.types.encode("ascii"),
            b"".join([name + b"\n" for name in names]),
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
        symbols = _Stored(body, header["count"])
        return SymbolTable(symbols, header["release"], header["build_id"], header["origin"])
    except (ValueError, KeyError, TypeError):
        return None
