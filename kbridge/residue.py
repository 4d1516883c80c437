# SPDX-License-Identifier: GPL-2.0-only
"""Instructions that have no place in a kmod, because they act on the thread that made the gate.

Looked for in the machine code, since inline assembly shows nowhere else.  What is only privileged
is fine: that is what a kmod is for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import NamedTuple

from kbridge.errors import KbridgeError


class _Class(NamedTuple):
    name: str  # for --allow
    why: str
    hint: str


_SYSTEM_CALL = _Class(
    "system-call",
    "would enter the kernel from the kernel, and come back to user code",
    "call the kernel function behind the system call",
)
_KERNEL_EXIT = _Class(
    "kernel-exit",
    "would leave the kernel, or swap its GS, in the middle of a gate",
    "return from the function: the gate does the rest",
)
_USER_SEGMENT = _Class(
    "user-segment",
    "is relative to %fs, the thread-local storage of user code",
    "use per-CPU or allocated data",
)
_MNEMONICS = {
    "syscall": _SYSTEM_CALL,
    "sysenter": _SYSTEM_CALL,
    "int": _SYSTEM_CALL,
    "sysret": _KERNEL_EXIT,
    "sysretq": _KERNEL_EXIT,
    "sysexit": _KERNEL_EXIT,
    "sysexitq": _KERNEL_EXIT,
    "iret": _KERNEL_EXIT,
    "iretd": _KERNEL_EXIT,
    "iretq": _KERNEL_EXIT,
    "swapgs": _KERNEL_EXIT,
}

# Bytes without which none of these instructions is there.  A disassembler costs 50 ms to load, so
# it is asked only about functions with such bytes (which may be part of something else).
_SUSPECT = re.compile(
    rb"\x0f[\x05\x07\x34\x35]|\x0f\x01\xf8|\xcd\x80|[\x48\x66]\xcf"
    # %fs: further prefixes, then an opcode with a memory operand (never 24, which is a SIB byte)
    rb"|\x64[\x66\xf0\xf2\xf3]*[\x40-\x4f]?"
    rb"[\x00-\x03\x08-\x0b\x0f-\x13\x18-\x1b\x20-\x23\x28-\x2b\x30-\x33\x38-\x3b\x63\x69\x6b"
    rb"\x80-\x8b\xa0-\xa3\xc0\xc1\xc6\xc7\xd0-\xd3\xf6\xf7\xfe\xff]",
    re.DOTALL,
)


class Function(NamedTuple):
    """Machine code from one label to the next; `offset` is where it starts in its section."""

    name: str
    section: int
    offset: int
    code: bytes


def _classify(instruction: tuple[int, int, str, str]) -> _Class | None:
    _, _, mnemonic, operands = instruction
    if mnemonic == "int" and operands != "0x80":
        return None
    return _USER_SEGMENT if "fs:[" in operands else _MNEMONICS.get(mnemonic)


def check(
    functions: Collection[Function], locate: Callable[[int, int], str], allow: Collection[str]
) -> None:
    """Raise KbridgeError for the first instruction of a class that is not in `allow`.

    `locate` gives the source line of an offset into a section.
    """
    suspects = [function for function in functions if _SUSPECT.search(function.code)]
    if not suspects:
        return
    import capstone

    disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    disassembler.skipdata = True
    for function in suspects:
        for found in disassembler.disasm_lite(function.code, function.offset):
            kind = _classify(found)
            if kind is not None and kind.name not in allow:
                where = locate(function.section, found[0])
                raise KbridgeError(
                    f"{where}: in {function.name}(): {found[2]} {found[3]}".rstrip()
                    + f": it {kind.why} (class {kind.name})",
                    hint=f"{kind.hint}; or, if you know better: --allow {kind.name}",
                )
