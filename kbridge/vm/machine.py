# SPDX-License-Identifier: GPL-2.0-only
"""Starts the virtual machine, has the relay run the program in it, and ends it.

The machine boots, or goes on from a state that an earlier one was in when it had booted.  Whatever
happens, it is gone when `run` returns or raises.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from kbridge import log, proc
from kbridge.errors import CommandError, KbridgeError
from kbridge.vm import protocol, qemu
from kbridge.vm.console import Console
from kbridge.vm.monitor import Monitor, MonitorError
from kbridge.vm.relay import Order, Outcome, Relay
from kbridge.vm.states import Shelf, State, StateError

BOOT_SECONDS = 300.0  # until the guest is ready; some 2 s is usual without KVM
WAKE_SECONDS = 60.0  # until it has taken the time; some 50 ms are usual
_POWER_OFF_SECONDS = 10.0
_STILL_HERE = ("/bin/sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"')


def _start(argv: list[str], inherited: Sequence[int], errors: IO[bytes]) -> subprocess.Popen[bytes]:
    # QEMU must not outlive this process, however that ends: setpriv asks for a signal, the shell
    # looks whether it was too late for that.  In a session of its own, so that Ctrl-C is ours to
    # act upon.
    setpriv = _setpriv()
    asks = [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []
    guard = [*asks, *_STILL_HERE, str(os.getpid())] if asks else []
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


def _setpriv() -> str | None:
    return shutil.which("setpriv")


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


@dataclass(frozen=True)
class Attempt:
    """What is to be run in the machine, until when (monotonic), and where its kernel's words go.

    `orderly`: let the guest power off, where otherwise the machine is ended as soon as the
    program's end is known.  `inherited`: descriptors that QEMU gets.
    """

    order: Order
    console: Console
    deadline: float | None = None
    orderly: bool = False
    inherited: Sequence[int] = ()


class _Guest:
    """A machine that was started, and what leads to it."""

    def __init__(
        self,
        attempt: Attempt,
        process: subprocess.Popen[bytes],
        ends: tuple[socket.socket, socket.socket, socket.socket | None],
        errors: IO[bytes],
    ) -> None:
        self.process = process
        self._channel, wire, self.monitor = ends
        self._attempt = attempt
        self._errors = errors
        self.relay = Relay(
            self._channel, wire, attempt.console, attempt.order, self._runs, attempt.deadline
        )

    def _runs(self) -> bool:
        return self.process.poll() is None and not self._attempt.console.hangs_in_panic()

    def last_words(self) -> str:
        """What QEMU printed, a line."""
        self._errors.seek(0)
        return "; ".join(self._errors.read().decode("utf-8", "replace").splitlines())

    def finish(self) -> Outcome:
        """Let the machine end, and say how it went."""
        outcome = self.relay.outcome
        self._channel.close()  # which makes a guest that still listens power off
        if not outcome.late and (self._attempt.orderly or not outcome.ended):
            _wait_for_its_end(self.process, self.relay)
        returncode = self.process.poll()  # None: it is for us to end it
        self.relay.hear_rest()
        if not outcome.ended and not outcome.late and returncode:
            raise _qemu_failed(returncode, self._errors)
        return outcome


@contextlib.contextmanager
def _started(
    machine: qemu.Machine,
    attempt: Attempt,
    kvm: bool,
    memory: qemu.Memory | None = None,
    more: Sequence[int] = (),
) -> Iterator[_Guest]:
    """`memory`, and `more` descriptors for QEMU: of a machine whose state is saved or loaded."""
    with contextlib.ExitStack() as stack:
        pairs = [socket.socketpair() for _ in range(3 if memory else 2)]
        ours = [stack.enter_context(contextlib.closing(one)) for one, _ in pairs]
        errors = stack.enter_context(tempfile.TemporaryFile(prefix="kbridge-qemu-"))
        with contextlib.ExitStack() as given:
            theirs = [given.enter_context(contextlib.closing(one)).fileno() for _, one in pairs]
            wires = qemu.Wires.descriptors(theirs[1], theirs[0], *theirs[2:])
            argv = qemu.command(machine, wires, kvm=kvm, memory=memory)
            inherited = [*theirs, *attempt.inherited, *more]
            inherited += [memory.descriptor] if memory else []
            process = _start(argv, inherited, errors)
        stack.enter_context(_ended(process))
        ends = (ours[0], ours[1], ours[2] if memory else None)
        try:
            yield _Guest(attempt, process, ends, errors)
        except protocol.ProtocolError as problem:
            raise KbridgeError(f"the guest says what it should not: {problem}") from problem


def _keep(guest: _Guest, memory: int, shelf: Shelf, console: Console) -> None:
    """Save the state of a machine that has booted, and let it go on.

    Not of one that had something to warn of: later runs would not hear of it.
    """
    assert guest.monitor is not None
    if guest.relay.outcome.warnings:
        return
    try:
        monitor = Monitor(guest.monitor)
        with tempfile.TemporaryFile(prefix="kbridge-state-") as devices:
            monitor.save(devices.fileno())
            try:
                shelf.put(memory, devices.fileno(), console.said())
            finally:
                monitor.go_on()
    except (MonitorError, OSError, KbridgeError) as problem:
        full = isinstance(problem, OSError) and problem.errno == errno.ENOSPC
        say = log.info if full else log.detail
        say(f"the machine's state is not saved, so the next run boots again: {problem}")


def _booted(machine: qemu.Machine, attempt: Attempt, kvm: bool, shelf: Shelf | None) -> Outcome:
    with contextlib.ExitStack() as stack:
        memory = None
        if shelf:
            descriptor = os.memfd_create("kbridge-guest")
            stack.callback(os.close, descriptor)
            memory = qemu.Memory(descriptor, shared=True)
        guest = stack.enter_context(_started(machine, attempt, kvm, memory))
        if guest.relay.booted(BOOT_SECONDS):
            log.detail(f"booted after {guest.relay.outcome.hello:.1f} s")
            if shelf and memory:
                _keep(guest, memory.descriptor, shelf, attempt.console)
            if guest.relay.woken(WAKE_SECONDS):
                guest.relay.run()
        return guest.finish()


def _checked(guest: _Guest, state: State) -> None:
    """Have QEMU load the state, while its digests are compared.  Raises StateError."""
    assert guest.monitor is not None
    wrong: list[StateError] = []
    right: list[bool] = []

    def check() -> None:
        try:
            state.check()
            right.append(True)
        except StateError as problem:
            wrong.append(problem)
        except Exception as problem:  # whatever it is: it was not compared
            wrong.append(StateError(f"it cannot be read: {problem}"))

    thread = threading.Thread(target=check)
    try:
        thread.start()
    except RuntimeError:  # as many threads as there may be
        check()
    try:
        monitor = Monitor(guest.monitor)
        monitor.load(state.devices)
    except MonitorError as problem:
        said = filter(None, (str(problem), guest.last_words()))
        wrong.append(StateError("; ".join(said)))
    finally:
        if thread.ident is not None:
            thread.join()
    if wrong or not right:
        raise wrong[0] if wrong else StateError("it was not compared with its digests")
    try:
        monitor.go_on()
    except MonitorError as problem:
        raise StateError(str(problem)) from problem


def _resumed(machine: qemu.Machine, attempt: Attempt, kvm: bool, state: State) -> Outcome:
    """Raises StateError as long as no program has been started."""
    memory = qemu.Memory(state.memory, shared=False)
    attempt.console.take(state.console)
    with _started(machine, attempt, kvm, memory, [state.devices]) as guest:
        _checked(guest, state)
        if not guest.relay.woken(WAKE_SECONDS):
            if guest.relay.outcome.late:
                return guest.finish()
            failure = guest.relay.outcome.failure or guest.last_words()
            raise StateError(failure or "the machine ends at once")
        log.detail(f"went on from a saved state after {guest.relay.outcome.ready:.2f} s")
        guest.relay.run()
        return guest.finish()


def initramfs_path(stream: IO[bytes]) -> Path:
    """How QEMU, which inherits it, opens an initramfs that has no name to be left behind."""
    return Path(f"/proc/self/fd/{stream.fileno()}")


def run(machine: qemu.Machine, attempt: Attempt, *, keeps: bool = False) -> Outcome:
    """Run `attempt` in `machine`, and say how that ended.

    `keeps`: go on from a saved state, or save one.  Raises KbridgeError when QEMU does not start.
    """
    kvm = qemu.kvm_works()
    # a machine that waits for its state ends by nothing but the signal
    able = _setpriv() and hasattr(os, "memfd_create")
    shelf = Shelf(machine, kvm=kvm) if keeps and able else None
    state = shelf.take() if shelf else None
    if shelf and state:
        with contextlib.closing(state):
            try:
                outcome = _resumed(machine, attempt, kvm, state)
                if outcome.ready is None:
                    shelf.discard("it does not wake up")
                return outcome
            except StateError as problem:
                shelf.discard(f"{problem}; booting anew")
                attempt.console.forget()
    return _booted(machine, attempt, kvm, shelf)


def _qemu_failed(returncode: int, errors: IO[bytes]) -> CommandError:
    errors.seek(0)
    return CommandError(
        f"{qemu.PROGRAM} failed: {proc.describe_exit(returncode)}",
        stderr=errors.read().decode("utf-8", "replace"),
        returncode=returncode,
        hint="see what QEMU says above; kbridge run --dry-run prints its command line",
    )
