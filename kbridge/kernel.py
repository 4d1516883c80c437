# SPDX-License-Identifier: GPL-2.0-only
"""The running kernel's functions, for Python programs: `kernel.symbol("ksys_write")(1, b"x", 1)`.

Not for the symbols of kernels that do not run (kbridge.symbols).
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from kbridge.binding import library
from kbridge.errors import KbridgeError
from kbridge.symbols import kallsyms
from kbridge.symbols.table import UnknownSymbol, listed

_WORDS = 6  # that kb_call() passes on
_KERNEL_HALF = 1 << 63  # addresses of x86-64 kernels have this bit; per-CPU offsets do not
_WORD = (1 << 64) - 1

Argument = int | bytes | bytearray | None | ctypes.Array  # type: ignore[type-arg]


def _word(value: object, name: str) -> object:
    """What ctypes passes as one word.  Memory has to outlive the call: the caller holds it."""
    if value is None or isinstance(value, bytes):
        return ctypes.c_char_p(value)
    if isinstance(value, bytearray):
        return (ctypes.c_char * len(value)).from_buffer(value)
    if isinstance(value, int):
        if not -_KERNEL_HALF <= value <= _WORD:
            raise KbridgeError(f"{name}: {value} does not fit in 64 bits")
        return ctypes.c_ulong(value & _WORD)
    if isinstance(value, ctypes.Array | ctypes._Pointer | ctypes.c_void_p | ctypes.c_char_p):
        return value
    raise KbridgeError(
        f"{name}: {type(value).__name__} is no word for a kernel function",
        hint="give int, None, bytes to be read, or a bytearray or ctypes array to be written",
    )


@dataclass(frozen=True)
class Symbol:
    """A symbol of the running kernel.  Called, it calls the kernel's function at `address`.

    Nobody checks what a function takes, and whether the symbol is one: as in C, a wrong call can
    take the machine down.  Pointers among the arguments are this program's memory (`__user`).
    """

    name: str
    address: int

    def __call__(self, *words: Argument) -> int:
        """The function's result as a C long, so that error numbers are negative.

        Up to six words: int, None, bytes (the kernel must not write there), bytearray and ctypes
        arrays or pointers.  Raises KbridgeError for others.  Where this process may not elevate,
        libkbridge ends it, with status 125.
        """
        if self.address < _KERNEL_HALF:
            raise KbridgeError(
                f"{self.name} is at {self.address:#x}: a per-CPU variable, not a function",
                hint="call a function of the kernel",
            )
        if len(words) > _WORDS:
            raise KbridgeError(
                f"{self.name}: {len(words)} words, {_WORDS} at most reach a kernel function",
                hint="write a kmod that makes the call",
            )
        passed = [_word(word, self.name) for word in words]
        return int(library().kb_call(ctypes.c_ulong(self.address), *passed))

    def __index__(self) -> int:
        return self.address


def _missing(name: str) -> KbridgeError:
    """Why kb_symbol() gives no address: it does not tell none from several."""
    table = kallsyms.running(modules=True)
    found = table.find(name)
    if not found:
        return UnknownSymbol(name, table.near(name), table.release)
    return KbridgeError(
        f"kernel {table.release} has {len(found)} definitions of {name}: {listed(found)}",
        hint=f'choose one by its address: kbridge.kernel.Symbol("{name}", 0x...)',
    )


def symbol(name: str) -> Symbol:
    """The symbol of that name, as the running kernel and its loaded modules have it now.

    Raises KbridgeError, with near names, where there is none or more than one.
    """
    encoded = name.encode(errors="replace")
    address = 0 if b"\0" in encoded else library().kb_symbol(encoded)
    if not address:
        raise _missing(name)
    return Symbol(name, address)
