# SPDX-License-Identifier: GPL-2.0-only
"""Moves bytes between this process's standard streams and the guest, until the program ends.

The guest says that it has booted (HELLO); from then on its state could be saved, and a machine that
goes on from there is at the same point.  It is woken, says that it is ready, gets the program with
its files and runs it.

One loop, no threads: the channel and the console are always read; a stream that cannot go on is
held back by its window (protocol.py), so that no stream stands in the way of another.  Not for
starting or ending the machine (machine.py).
"""

from __future__ import annotations

import errno
import os
import select
import socket
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from kbridge import log, progress
from kbridge.elevation import Counts, Plan
from kbridge.vm import protocol
from kbridge.vm.console import Console
from kbridge.vm.protocol import Type

_CHUNK = 65536
_TICK = 0.25  # seconds between looks at what no descriptor tells


@dataclass(frozen=True)
class Order:
    """What the guest is to run: `path` there, argv, environment, working folder; in ring 0?

    `delivery`: frames that bring the files which it gets first.
    """

    path: str
    argv: Sequence[str]
    environment: dict[str, str]
    folder: str
    elevation: Plan | None = None
    delivery: Iterable[bytes] = ()

    def frames(self) -> Iterator[bytes]:
        yield from self.delivery
        rows = [(Type.PROGRAM, self.path), (Type.FOLDER, self.folder)]
        rows += [(Type.ARGUMENT, word) for word in self.argv]
        rows += [(Type.VARIABLE, f"{name}={value}") for name, value in self.environment.items()]
        made = [protocol.encode(kind, os.fsencode(text)) for kind, text in rows]
        if self.elevation:
            made.append(protocol.encode(Type.ELEVATE, self.elevation.payload))
        yield b"".join([*made, protocol.encode(Type.START)])


@dataclass
class Outcome:
    """How it ended.  All None: the machine went away, or the time was up (`late`)."""

    wait_status: int | None = None
    refused: int | None = None  # errno of execve
    failure: str | None = None  # the guest's own
    late: bool = False
    hello: float | None = None  # seconds until the guest had booted
    ready: float | None = None  # seconds until it was awake
    warnings: list[str] = field(default_factory=list)
    counts: Counts | None = None  # of an elevated program

    @property
    def ended(self) -> bool:
        return not (self.wait_status is None and self.refused is None and self.failure is None)


class _Output:
    """Standard output or error: what the guest sent and the descriptor has not taken yet."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.waiting = bytearray()
        self.closed = False
        # a write of so many bytes does not block when poll() says that there is room
        regular = stat.S_ISREG(os.fstat(fd).st_mode)
        self.chunk = _CHUNK if regular else select.PIPE_BUF

    def write(self) -> int:
        """Write once; the bytes written, or -1 when nobody takes them any more."""
        try:
            done = os.write(self.fd, memoryview(self.waiting)[: self.chunk])
        except BlockingIOError:
            return 0
        except OSError as problem:
            if problem.errno != errno.EPIPE:
                log.warning(f"cannot write what PROG prints: {problem.strerror}")
            self.waiting.clear()
            self.closed = True
            return -1
        del self.waiting[:done]
        return done


class Relay:
    """`channel` and `console_wire`: this end of the machine's sockets.

    `alive`: whether the machine still runs.  `deadline` (monotonic): when the time is up, if ever.
    `streams`: descriptors of standard input, output and error.
    """

    def __init__(
        self,
        channel: socket.socket,
        console_wire: socket.socket,
        console: Console,
        order: Order,
        alive: Callable[[], bool] = lambda: True,
        deadline: float | None = None,
        streams: tuple[int, int, int] = (0, 1, 2),
    ) -> None:
        self._channel = channel
        self._wire = console_wire
        self._console = console
        self._order = order
        self._alive = alive
        self._deadline = deadline
        self._decoder = protocol.Decoder()
        self._to_guest = bytearray()
        self._to_make: Iterator[bytes] | None = None  # what comes behind it
        self._input = streams[0]
        self._outputs = {number: _Output(streams[number]) for number in (1, 2)}
        self._input_open = False
        self._credit = 0
        self._machine_here = True
        self._console_here = True
        self.outcome = Outcome()
        self._start = time.monotonic()
        channel.setblocking(False)
        console_wire.setblocking(False)

    # standard input

    def _may_read_input(self) -> bool:
        if not self._input_open or not self._credit:
            return False
        try:  # reading a terminal from the background would stop this process
            return os.tcgetpgrp(self._input) == os.getpgrp()
        except OSError:
            return True  # no terminal, or not ours

    def _read_input(self) -> None:
        try:
            data = os.read(self._input, min(_CHUNK, self._credit))
        except BlockingIOError:
            return
        except OSError:
            data = b""  # closed, or a folder: no input
        if data:
            self._credit -= len(data)
            self._to_guest += protocol.encode(Type.DATA, data, stream=0)
        else:
            self._input_open = False
            self._to_guest += protocol.encode(Type.CLOSE, stream=0)

    # standard output and error

    def _write_output(self, stream: int) -> None:
        output = self._outputs[stream]
        done = output.write()
        if done > 0:
            self._to_guest += protocol.encode_number(Type.CREDIT, done, stream=stream)
        elif done < 0:
            # the program gets SIGPIPE at its next write, as it would here
            self._to_guest += protocol.encode(Type.CLOSE, stream=stream)

    # the channel

    def _obey(self, frame: protocol.Frame) -> None:
        outcome = self.outcome
        match frame.type:
            case Type.DATA if frame.stream in self._outputs:
                if not self._outputs[frame.stream].closed:
                    self._outputs[frame.stream].waiting += frame.payload
            case Type.CREDIT:
                self._credit += frame.number
            case Type.CLOSE:
                self._input_open = self._input_open and frame.stream != 0
            case Type.EXIT:
                outcome.wait_status = frame.number
            case Type.COUNTS:
                outcome.counts = Counts.unpack(frame.payload)
            case Type.NOT_STARTED:
                outcome.refused = frame.number
            case Type.FAILED:
                outcome.failure = frame.text
            case Type.WARNING:
                outcome.warnings.append(frame.text)
                log.warning(f"in the guest: {frame.text}")
            case Type.HELLO:
                self._check(frame.number)
                outcome.hello = self._seconds()
            case Type.READY:
                self._check(frame.number)
                outcome.ready = self._seconds()
            case _:
                raise protocol.ProtocolError(f"an unexpected {frame.type.name}")

    def _check(self, version: int) -> None:
        if version != protocol.VERSION:
            raise protocol.ProtocolError(f"version {version}, not {protocol.VERSION}")

    def _seconds(self) -> float:
        return time.monotonic() - self._start

    def _receive(self) -> None:
        data = _received(self._channel)
        if data is None:
            return
        if not data:
            self._machine_here = False
            return
        for frame in self._decoder.feed(data):
            self._obey(frame)

    def _make_more(self) -> None:
        while self._to_make and len(self._to_guest) < _CHUNK:
            made = next(self._to_make, None)
            if made is None:
                self._to_make = None
                self._input_open = True
                self._credit = protocol.WINDOW
            else:
                self._to_guest += made

    def _send(self) -> None:
        try:
            done = self._channel.send(memoryview(self._to_guest)[:_CHUNK])
        except BlockingIOError:
            return
        except OSError:
            self._machine_here = False
            return
        del self._to_guest[:done]
        self._make_more()

    def _hear(self) -> None:
        data = _received(self._wire)
        if data:
            self._console.take(data)
        elif data is not None:
            self._console_here = False

    # the loop

    def _interests(self) -> dict[int, int]:
        wanted: dict[int, int] = {}
        if self._machine_here:
            wanted[self._channel.fileno()] = select.POLLIN | (
                select.POLLOUT if self._to_guest else 0
            )
        if self._console_here:
            wanted[self._wire.fileno()] = select.POLLIN
        if self._may_read_input():
            wanted[self._input] = select.POLLIN
        for output in self._outputs.values():
            if output.waiting:
                wanted[output.fd] = select.POLLOUT
        return wanted

    def _act(self, fd: int, events: int) -> None:
        if fd == self._channel.fileno():
            if events & ~select.POLLOUT:
                self._receive()
            if events & select.POLLOUT:
                self._send()
        elif fd == self._wire.fileno():
            self._hear()
        elif fd == self._input:
            self._read_input()
        else:
            for stream, output in self._outputs.items():
                if output.fd == fd and output.waiting:
                    self._write_output(stream)

    def _turn(self, seconds: float) -> None:
        poll = select.poll()
        for fd, events in self._interests().items():
            poll.register(fd, events)
        for fd, events in poll.poll(max(0.0, seconds) * 1000):
            self._act(fd, events)

    def _done(self) -> bool:
        if any(output.waiting for output in self._outputs.values()):
            return False
        return self.outcome.ended or not self._machine_here

    def _until(self, done: Callable[[], bool], deadline: float | None) -> bool:
        """Whether it came to that before `deadline` (monotonic)."""
        while not done():
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                return False
            self._turn(min(_TICK, (deadline or now + 1) - now))
            if not self._alive():
                self._take_rest()
                self._machine_here = False
        return True

    def _reached(self, there: Callable[[], bool], seconds: float) -> bool:
        def settled() -> bool:
            return there() or self.outcome.ended or not self._machine_here

        limit = time.monotonic() + seconds
        if self._deadline is not None and self._deadline <= limit:
            self.outcome.late = not self._until(settled, self._deadline)
        elif not self._until(settled, limit):
            self.outcome.failure = f"not ready after {seconds:.0f} s"
        return there()

    def booted(self, seconds: float) -> bool:
        """Wait until the guest has booted; where it does not, `outcome` says why."""
        return self._reached(lambda: self.outcome.hello is not None, seconds)

    def woken(self, seconds: float) -> bool:
        """Give the guest the time and random numbers, and wait until it is ready."""
        self._to_guest += protocol.wake()
        return self._reached(lambda: self.outcome.ready is not None, seconds)

    def run(self) -> Outcome:
        """Have the program run, and relay until it has ended, the machine is gone, or the time is
        up.
        """
        progress.over()
        self._to_make = self._order.frames()
        self._make_more()
        self.outcome.late = not self._until(self._done, self._deadline)
        return self.outcome

    def _take_rest(self) -> None:
        """What a machine that has gone had still said."""
        while self._machine_here and _has_data(self._channel):
            self._receive()
        self.hear_rest()

    def hear_rest(self) -> None:
        while self._console_here and _has_data(self._wire):
            self._hear()


def _received(wire: socket.socket) -> bytes | None:
    """What has come; b'' at the end, None when there is nothing yet."""
    try:
        return wire.recv(4 * _CHUNK)
    except BlockingIOError:
        return None
    except OSError:
        return b""


def _has_data(wire: socket.socket) -> bool:
    return bool(select.select([wire], [], [], 0)[0])
