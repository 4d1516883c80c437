# SPDX-License-Identifier: GPL-2.0-only
"""Starts the virtual machine, has the relay run the program in it, and ends it.

Whatever happens, the machine is gone when `run` returns or raises.
"""

from __future__ import annotations

import contextlib
import shlex
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from kbridge import log, proc
from kbridge.errors import CommandError, KbridgeError
from kbridge.vm import protocol, qemu
from kbridge.vm.console import Console
from kbridge.vm.relay import Order, Outcome, Relay

BOOT_SECONDS = 300.0  # until the guest is ready; some 2 s is usual without KVM
_POWER_OFF_SECONDS = 10.0


def _start(argv: list[str], inherited: Sequence[int], errors: IO[bytes]) -> subprocess.Popen[bytes]:
    # QEMU must not outlive this process, however that ends; the guest also powers off when the
    # channel is unplugged.  In a session of its own, so that Ctrl-C is ours to act upon.
    setpriv = shutil.which("setpriv")
    guard = [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []
    log.detail(shlex.join(argv))
    try:
        return subprocess.Popen(
            [*guard, *argv],
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            pass_fds=inherited,
            start_new_session=True,
        )
    except OSError as problem:
        raise KbridgeError(f"cannot start {argv[0]}: {problem.strerror}") from problem


@contextlib.contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        while process.poll() is None:
            process.kill()
            # a second Ctrl-C must not leave the process behind
            with contextlib.suppress(KeyboardInterrupt):
                process.wait()


def _wait_for_its_end(process: subprocess.Popen[bytes], relay: Relay) -> None:
    """Let a guest that has powered off, or is about to, say its last words."""
    end = time.monotonic() + _POWER_OFF_SECONDS
    while process.poll() is None and time.monotonic() < end:
        relay.hear_rest()
        time.sleep(0.01)
    relay.hear_rest()


def initramfs_path(stream: IO[bytes]) -> Path:
    """How QEMU, which inherits it, opens an initramfs that has no name to be left behind."""
    return Path(f"/proc/self/fd/{stream.fileno()}")


def run(
    machine: qemu.Machine,
    order: Order,
    console: Console,
    *,
    inherited: Sequence[int] = (),
    seconds: float | None = None,
    orderly: bool = False,
) -> Outcome:
    """Boot `machine`, run `order` in it, and say how that ended.

    `inherited`: descriptors that QEMU gets, see `initramfs_path`.  `seconds`: the most that the
    whole run may take; None for no limit.  `orderly`: let the guest power off, where otherwise
    the machine is ended as soon as the program's end is known.  Raises KbridgeError when QEMU
    does not start.
    """
    begin = time.monotonic()
    deadline = None if seconds is None else begin + seconds
    channel, its_channel = socket.socketpair()
    wire, its_wire = socket.socketpair()
    with (
        contextlib.closing(channel),
        contextlib.closing(wire),
        tempfile.TemporaryFile(prefix="kbridge-qemu-") as errors,
    ):
        with contextlib.closing(its_channel), contextlib.closing(its_wire):
            wires = qemu.Wires.descriptors(its_wire.fileno(), its_channel.fileno())
            argv = qemu.command(machine, wires, kvm=qemu.kvm_works())
            own = (its_channel.fileno(), its_wire.fileno())
            process = _start(argv, (*own, *inherited), errors)
        with _ended(process):
            relay = Relay(channel, wire, console, order)
            try:
                outcome = relay.run(
                    lambda: process.poll() is None and not console.hangs_in_panic(),
                    deadline,
                    BOOT_SECONDS,
                )
            except protocol.ProtocolError as problem:
                raise KbridgeError(f"the guest says what it should not: {problem}") from problem
            channel.close()  # which makes a guest that still listens power off
            if not outcome.late and (orderly or not outcome.ended):
                _wait_for_its_end(process, relay)
            returncode = process.poll()  # None: it is for us to end it
        relay.hear_rest()
        if not outcome.ended and not outcome.late and returncode:
            raise _qemu_failed(returncode, errors)
    return outcome


def _qemu_failed(returncode: int, errors: IO[bytes]) -> CommandError:
    errors.seek(0)
    return CommandError(
        f"{qemu.PROGRAM} failed: {proc.describe_exit(returncode)}",
        stderr=errors.read().decode("utf-8", "replace"),
        returncode=returncode,
        hint="see what QEMU says above; kbridge run --dry-run prints its command line",
    )
