# SPDX-License-Identifier: GPL-2.0-only
"""Whole programs in ring 0: the adaptors by their names, and what /dev/kelevate is asked for.

kernel/kelevate/kelevate.h is the other end: KELEVATE_ELEVATE, KELEVATE_COUNT.
"""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kbridge import options
from kbridge.errors import KbridgeError, UsageError

DEVICE = "/dev/kelevate"
_MODULES_DISABLED = Path("/proc/sys/kernel/modules_disabled")  # of every kernel with modules
OWN_FAILURE = 125  # as env(1) and nice(1) have it: lower statuses are PROG's

_PROGRAM, _INHERIT = 1, 2
_ELEVATION = struct.Struct("<IIQ")  # struct kelevate_elevation
_COUNTS = struct.Struct("<4Q")  # struct kelevate_counts


def _command(direction: int, number: int, size: int) -> int:
    """An ioctl number, as the kernel's _IOC() makes it."""
    return direction << 30 | size << 16 | 0xB8 << 8 | number


_ELEVATE = _command(3, 3, _ELEVATION.size)
_COUNT = _command(2, 5, _COUNTS.size)


@dataclass(frozen=True)
class Adaptor:
    """`does`: what it changes for elevated code.  `without`: what happens when it is left out.

    `when`: the machines that need it.  Its code is in kernel/kelevate/`source`.
    """

    name: str
    bit: int
    source: str
    does: str
    without: str
    when: str = "always"


ADAPTORS = (
    Adaptor(
        "stack",
        0,
        "vectors.c",
        "interrupts and exceptions switch to a stack of their own, as from ring 3",
        "the red zone is overwritten; a fault on a stack page that is not there yet is a double "
        "fault: the machine panics",
    ),
    Adaptor(
        "fault",
        1,
        "adapt_fault.c",
        "page faults are served as a user's",
        "the first page that is not there yet is a kernel bug: an oops ends the program",
    ),
    Adaptor(
        "syscall",
        2,
        "adapt_syscall.c",
        "the syscall instruction works in ring 0",
        "the first system call enters the kernel with the wrong GS base: the machine resets, "
        "panics or hangs",
    ),
    Adaptor(
        "smep",
        3,
        "adapt_smep.c",
        "CR4.SMEP is off while the thread is on a CPU",
        "the first instruction faults: SIGSEGV",
        "CPUs with SMEP",
    ),
    Adaptor(
        "smap",
        4,
        "adapt_smap.c",
        "the flag AC is set in elevated code",
        "the first access to memory faults, is served as a user's, and faults again: the program "
        "stands still until it is killed",
        "CPUs with SMAP",
    ),
    Adaptor(
        "pti",
        5,
        "adapt_pti.c",
        "user pages are executable by the kernel's page tables",
        "the first instruction faults: SIGSEGV",
        "kernels with page-table isolation on",
    ),
    Adaptor(
        "ibt",
        6,
        "adapt_ibt.c",
        "indirect branch tracking is off in elevated code",
        "an indirect branch to code without endbr64 faults (not tried: it takes a CPU that has it)",
        "kernels with indirect branch tracking on",
    ),
    Adaptor(
        "threads",
        7,
        "adapt_threads.c",
        "new threads, and with --inherit new processes, are elevated as they are made",
        "new threads run in ring 3",
    ),
)


@dataclass(frozen=True)
class Plan:
    """How a program is to be elevated: `flags` and `without` of struct kelevate_elevation."""

    flags: int
    without: int

    @property
    def payload(self) -> bytes:
        return _ELEVATION.pack(self.flags, self.without, 0)


@dataclass(frozen=True)
class Counts:
    """Timer interrupts that found the program's threads there, and how many threads it had."""

    ring0: int
    ring3: int
    kernel: int
    threads: int

    @classmethod
    def unpack(cls, payload: bytes) -> Counts:
        return cls(*_COUNTS.unpack(payload))

    def __str__(self) -> str:
        user = self.ring0 + self.ring3
        share = f"{100 * self.ring0 / user:.1f} %" if user else "none"
        return (
            f"timer interrupts in user code: {user}, {share} in ring 0 "
            f"({self.ring0} in ring 0, {self.ring3} in ring 3; {self.kernel} in the kernel; "
            f"threads: {self.threads})"
        )


def plan(inherit: bool, without: Iterable[str]) -> Plan:
    """Raises UsageError for an adaptor that there is not."""
    known = {adaptor.name: 1 << adaptor.bit for adaptor in ADAPTORS}
    bits = 0
    for name in without:
        if name not in known:
            near = options.nearest(name, known)
            hint = f"did you mean {near}?" if near else "kbridge adaptors lists them"
            raise UsageError(f"--without {name}: no such adaptor", hint=hint)
        bits |= known[name]
    return Plan(_PROGRAM | (_INHERIT if inherit else 0), bits)


def may_not(hint: str) -> KbridgeError:
    """The kernel refused."""
    return KbridgeError(
        "may not elevate: it takes CAP_SYS_MODULE, no lockdown, kernel.modules_disabled=0",
        hint=hint,
        status=OWN_FAILURE,
    )


def _failure(problem: OSError) -> KbridgeError:
    """Why /dev/kelevate did not do it."""
    if problem.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        hint = f'load kelevate: insmod "$(kbridge kelevate --kernel {platform.release()})"'
        if not _MODULES_DISABLED.exists():
            hint = "this kernel takes no modules; in a virtual machine: kbridge run --elevate PROG"
        return KbridgeError(f"{DEVICE} is not there", hint=hint, status=OWN_FAILURE)
    if problem.errno in (errno.EPERM, errno.EACCES):
        return may_not("run it as root, or in a virtual machine: kbridge run --elevate PROG")
    return KbridgeError(
        f"cannot elevate: {problem.strerror}",
        hint="the kernel log says why: dmesg | grep kelevate",
        status=OWN_FAILURE,
    )


def open_device() -> int:
    """A descriptor of /dev/kelevate.  Raises KbridgeError."""
    try:
        return os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as problem:
        raise _failure(problem) from problem


def elevate_with_exec(device: int, chosen: Plan) -> None:
    """From its next exec on the calling thread's program runs in ring 0.  Raises KbridgeError."""
    try:
        fcntl.ioctl(device, _ELEVATE, chosen.payload)
    except OSError as problem:
        raise _failure(problem) from problem


def counts(device: int) -> Counts:
    """Of the program that was elevated through this open file.  Raises OSError."""
    return Counts.unpack(fcntl.ioctl(device, _COUNT, bytes(_COUNTS.size)))


def table(adaptors: Sequence[Adaptor] = ADAPTORS) -> str:
    lines = []
    for adaptor in adaptors:
        lines.append(f"{adaptor.name:8} {adaptor.does}")
        lines.append(f"{'':8}   needed: {adaptor.when}")
        lines.append(f"{'':8}   without it: {adaptor.without}")
        lines.append(f"{'':8}   source: kernel/kelevate/{adaptor.source}")
    return "\n".join(lines)
