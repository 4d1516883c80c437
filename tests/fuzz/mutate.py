# SPDX-License-Identifier: GPL-2.0-only
"""Damages bytes as files get damaged: bits, bytes, lengths, pieces lost, doubled or swapped."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence

_ODD = (0, 1, 2, 0x7F, 0x80, 0xFF)
_WORDS = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 63)


def _bit(data: bytearray, chance: random.Random) -> None:
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _byte(data: bytearray, chance: random.Random) -> None:
    data[chance.randrange(len(data))] = chance.choice((*_ODD, chance.randrange(256)))


def _word(data: bytearray, chance: random.Random) -> None:
    form = chance.choice("HIQ")
    size = struct.calcsize(form)
    if len(data) < size:
        return
    at = chance.randrange(len(data) - size + 1)
    at -= at % size * chance.randrange(2)
    value = chance.choice(_WORDS) + chance.choice((0, 0, -1, 1))
    if chance.random() < 0.3:
        value = struct.unpack_from(f"<{form}", data, at)[0] + chance.randrange(-16, 17)
    struct.pack_into(f"<{form}", data, at, value % (1 << 8 * size))


def _cut(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data)) :]


def _lose(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(data))
    del data[at : at + chance.choice((1, 2, 4, 8, chance.randrange(1, 64)))]


def _copy(data: bytearray, chance: random.Random) -> None:
    """A piece, to another place: over what is there, or in between."""
    start, to = chance.randrange(len(data)), chance.randrange(len(data))
    piece = data[start : start + chance.choice((1, 4, 8, 16, chance.randrange(1, 200)))]
    data[to : to + len(piece) * chance.randrange(2)] = piece


def _zeros(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(data))
    size = min(chance.choice((4, 16, 512)), len(data) - at)
    data[at : at + size] = bytes([chance.choice((0, 0xFF))]) * size


_WAYS: Sequence[Callable[[bytearray, random.Random], None]] = (
    _bit, _bit, _bit, _byte, _byte, _word, _word, _cut, _lose, _copy, _zeros,
)  # fmt: skip


def mutated(data: bytes, words: Sequence[bytes], chance: random.Random) -> bytes:
    """`data`, damaged once or a few times; `words` may come to stand in it."""
    found = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 4, 12))):
        if not found:
            break
        if words and chance.random() < 0.2:
            at, word = chance.randrange(len(found) + 1), chance.choice(words)
            found[at : at + len(word) * chance.randrange(2)] = word
        else:
            chance.choice(_WAYS)(found, chance)
    return bytes(found)
