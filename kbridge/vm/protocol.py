# SPDX-License-Identifier: GPL-2.0-only
"""The frames on the channel between host and guest: bytes to frames and back.

guest/guest.h is the other end and has the same list.  Not for what the frames make happen
(relay.py).
"""

from __future__ import annotations

import enum
import os
import struct
import time
from collections.abc import Iterator
from typing import NamedTuple

VERSION = 2
MAX_PAYLOAD = 256 * 1024
WINDOW = 256 * 1024  # bytes of a stream that may be on their way

_HEADER = struct.Struct("<BBHI")  # type, stream, zero, size of the payload in bytes
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_SEED = 64  # bytes


class Type(enum.IntEnum):
    # guest to host
    HELLO = 1
    WARNING = 2
    FAILED = 3
    NOT_STARTED = 4
    EXIT = 5
    COUNTS = 6
    READY = 7
    # host to guest: the program to run
    PROGRAM = 16
    FOLDER = 17
    ARGUMENT = 18
    VARIABLE = 19
    START = 20
    ELEVATE = 21
    # before it
    WAKE = 22
    MAKE_FOLDER = 23
    MAKE_FILE = 24
    MAKE_LINK = 25
    CONTENT = 26
    # both ways
    DATA = 32
    CLOSE = 33
    CREDIT = 34


class ProtocolError(Exception):
    """Bytes that are no frame: the other end is not what it should be."""


class Frame(NamedTuple):
    type: Type
    stream: int
    payload: bytes

    @property
    def number(self) -> int:
        """The payload as the one number that it is."""
        if len(self.payload) != _U32.size:
            raise ProtocolError(f"{self.type.name} with {len(self.payload)} bytes, not a number")
        return int(_U32.unpack(self.payload)[0])

    @property
    def text(self) -> str:
        return self.payload.decode("utf-8", "replace")


def encode(type: Type, payload: bytes = b"", *, stream: int = 0) -> bytes:
    """One frame.  Raises ValueError for more than MAX_PAYLOAD bytes."""
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"a frame of {len(payload)} bytes")
    return _HEADER.pack(type, stream, 0, len(payload)) + payload


def encode_number(type: Type, number: int, *, stream: int = 0) -> bytes:
    return encode(type, _U32.pack(number), stream=stream)


def wake() -> bytes:
    """The time and random bytes, for a guest that has neither."""
    return encode(Type.WAKE, _U64.pack(time.time_ns()) + os.urandom(_SEED))


class Decoder:
    """Takes bytes as they come, in pieces of any size, and gives whole frames."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that `data` completes.  Raises ProtocolError."""
        self._bytes += data
        while len(self._bytes) >= _HEADER.size:
            kind, stream, zero, size = _HEADER.unpack_from(self._bytes)
            if zero or stream > 2 or size > MAX_PAYLOAD or kind not in Type.__members__.values():
                raise ProtocolError(f"no frame: {bytes(self._bytes[: _HEADER.size]).hex()}")
            end = _HEADER.size + size
            if len(self._bytes) < end:
                return
            payload = bytes(self._bytes[_HEADER.size : end])
            del self._bytes[:end]
            yield Frame(Type(kind), stream, payload)
