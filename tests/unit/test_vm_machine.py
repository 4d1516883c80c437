# SPDX-License-Identifier: GPL-2.0-only
"""QEMU's command line, the console, the relay against a guest that is a thread of this test."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from kbridge.errors import KbridgeError
from kbridge.verbs import run
from kbridge.vm import fault, native, protocol, qemu
from kbridge.vm.console import Console
from kbridge.vm.protocol import Frame, Type
from kbridge.vm.relay import Order, Outcome, Relay

ORDER = Order("/bin/prog", ["prog", "a b"], {"KB_X": "1"}, "/here")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> qemu.Machine:
    monkeypatch.setattr(qemu, "program", lambda: "qemu")
    return qemu.Machine(Path("/boot/vm,linuz"), Path("/tmp/initrd"), 3, 700, "one two")


def test_the_command_line(machine: qemu.Machine) -> None:
    argv = qemu.command(machine, qemu.Wires.descriptors(7, 8), kvm=False)
    text = " ".join(argv)
    for part in ("-M q35", "-accel tcg", "-nodefaults", "-no-reboot", "-smp 3", "-m 700M"):
        assert part in text
    assert argv[argv.index("-kernel") + 1] == "/boot/vm,,linuz"
    words = argv[argv.index("-append") + 1].split()
    assert words[-2:] == ["one", "two"]
    assert "panic=-1" in words
    assert "nokaslr" not in words
    assert "socket,id=console,fd=7" in argv
    assert "-accel kvm" in " ".join(qemu.command(machine, qemu.Wires.by_hand(), kvm=True))


def test_kvm_is_believed_when_a_machine_ran_with_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, temporary_cache: Path
) -> None:
    assert temporary_cache
    for status, expected in ((85, True), (0, False), (1, False)):
        fake = tmp_path / f"qemu{status}"
        fake.write_text(f"#!/bin/sh\nexit {status}\n")
        fake.chmod(0o755)
        monkeypatch.setattr(qemu, "program", lambda fake=fake: str(fake))
        monkeypatch.setattr(os, "access", lambda *_: True)
        assert qemu.kvm_works() is expected
        fake.write_text("#!/bin/sh\nexit 3\n# more\n")  # another program is probed anew
        fake.chmod(0o755)
        assert qemu.kvm_works() is False


def test_the_console(tmp_path: Path) -> None:
    console = Console(file=tmp_path / "log")
    console.take(b"\x1bc\x1b[?7l[ 0.1] hello\r\n[ 0.2] Oops: 0000 [#1]\r\n[ 0.3] Kernel pan")
    assert console.panic() is None
    assert not console.hangs_in_panic()
    console.take(b"ic - not syncing: sysrq triggered crash\r\n")
    console.close()
    assert console.panic() == "sysrq triggered crash"
    found = console.fault()
    assert found
    assert found.text() == "Oops: 0000 [#1]"
    assert console._panicked is not None
    assert b"hello" in (tmp_path / "log").read_bytes()


OOPSES = """\
[ 1.0] BUG: kernel NULL pointer dereference, address: 0000000000000008
[ 1.0] Oops: 0002 [#1] PREEMPT SMP NOPTI
[ 1.0] RIP: 0010:first+0x4/0x10 [kb:app]
[ 1.0] ---[ end trace 0000000000000000 ]---
[ 2.0] ------------[ cut here ]------------
[ 2.0] kernel BUG at /src/kmod.c:7!
[ 2.0] invalid opcode: 0000 [#2] PREEMPT SMP NOPTI
[ 2.0] RIP: 0010:second+0xe/0x10 [kb:app]
[ 2.0] RIP: 0033:0x7f1a99cd5740
[ 2.0] ---[ end trace 0000000000000000 ]---
[ 3.0] app[99]: kb:app freed
"""

CALLED = """\
[ 1.0] kernel BUG at mm/slub.c:419!
[ 1.0] invalid opcode: 0000 [#1] PREEMPT SMP NOPTI
[ 1.0] RIP: 0010:kfree+0x254/0x370
[ 1.1] kelevate: app[9] dies of a fault in twice+0x2a/0x40 [kb:app], at kfree+0x254/0x370
[ 1.1] ---[ end trace 0000000000000000 ]---
"""


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        (OOPSES, "kernel BUG at /src/kmod.c:7! in second+0xe/0x10 [kb:app]"),
        (OOPSES[: OOPSES.index("[ 2.0]")], "BUG: kernel NULL pointer dereference, address: "
         "0000000000000008 in first+0x4/0x10 [kb:app]"),
        ("[ 1.0] divide error: 0000 [#1] PREEMPT SMP\n[ 1.0] RIP: 0010:f+0x1/0x2\n",
         "divide error: 0000 [#1] PREEMPT SMP in f+0x1/0x2"),
        (CALLED, "kernel BUG at mm/slub.c:419! in twice+0x2a/0x40 [kb:app]"),
        (CALLED + OOPSES.replace("[kb:app]", "[driver]"),
         "kernel BUG at mm/slub.c:419! in twice+0x2a/0x40 [kb:app]"),
        ("[ 1.0] BUG: scheduling while atomic: app/108/0x2\n", None),
        ("[ 1.0] int3: 0000 [#1] SMP\n[ 1.0] RIP: 0010:f+0x1/0x2 [kb:app]\n",
         "int3: 0000 [#1] SMP in f+0x1/0x2 [kb:app]"),
        ("[ 1.0] all is well\n", None),
    ],
)  # fmt: skip
def test_the_last_fault_and_its_function(said: str, fault: str | None) -> None:
    console = Console()
    console.take(said.encode())
    found = console.fault()
    assert (found.text() if found else None) == fault


@pytest.mark.parametrize("lines", [3, 24, 25, 100])
def test_a_long_report_is_cut_and_says_so(lines: int, capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    trace = "".join(f"[ 1.0]  step{k}+0x1/0x2\n" for k in range(lines - 2))
    console.take(f"[ 1.0] BUG: unable\n{trace}[ 1.0] ---[ end trace 0 ]---\n".encode())
    console.print_fault()
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 + min(lines, 24) + (lines > 24)
    assert (said[-1] == "...") == (lines > 24)


def test_the_source_line_of_a_fault(tmp_path: Path) -> None:
    program, debug = tmp_path / "app", tmp_path / "app.kmod.debug"
    (tmp_path / "f.c").write_text("int f(int *p)\n{\n\treturn *p;\n}\n")
    flags = ["-O2", "-g", "-ffreestanding", "-fcf-protection=none", "-nostdlib", "-Wl,-Ttext=0"]
    words = ["gcc", *flags, "-static", "-Wl,-e0", "f.c", "-o", debug]
    subprocess.run(words, cwd=tmp_path, check=True)
    with debug.open("rb") as stream:
        text = ELFFile(stream).get_section_by_name(".text").data()
    said = ["Oops: 0000 [#1]", "RIP: 0010:f+0x0/0x3 [kb:app]"]
    found = fault.last(said)
    assert found
    program.write_bytes(b"head" + text + b"tail")
    assert fault.source_line(found, [program]) == "f.c:3"
    program.write_bytes(b"head" + text[:-1] + b"\0tail")  # built again since, without -g
    assert fault.source_line(found, [program]) == ""
    assert fault.source_line(found, [tmp_path / "other"]) == ""


class Guest(threading.Thread):
    """The other end of the channel: echoes stdin to stdout in small pieces, then exits."""

    def __init__(self, channel: socket.socket, wire: socket.socket, status: int = 0) -> None:
        super().__init__()
        self.channel, self.wire, self.status = channel, wire, status
        self.frames: list[Frame] = []
        self.credit = protocol.WINDOW
        self.queue = bytearray()
        self.most = 0

    def _take(self, frame: Frame) -> bool:
        self.frames.append(frame)
        if frame.type is Type.DATA:
            self.queue += frame.payload
            self.most = max(self.most, len(self.queue))
        elif frame.type is Type.CREDIT and frame.stream == 1:
            self.credit += frame.number
        elif frame.type is Type.WAKE:
            self.channel.sendall(protocol.encode_number(Type.READY, protocol.VERSION))
        return frame.type is Type.CLOSE and frame.stream == 0

    def _echo(self) -> None:
        while self.queue and self.credit:
            piece = bytes(self.queue[: min(5000, self.credit)])
            del self.queue[: len(piece)]
            self.credit -= len(piece)
            self.channel.sendall(protocol.encode(Type.DATA, piece, stream=1))
            self.channel.sendall(protocol.encode_number(Type.CREDIT, len(piece), stream=0))

    def run(self) -> None:
        self.wire.sendall(b"booting\r\n")
        self.channel.sendall(protocol.encode_number(Type.HELLO, protocol.VERSION))
        decoder, ended = protocol.Decoder(), False
        while not (ended and not self.queue):
            for frame in decoder.feed(self.channel.recv(65536)):
                ended = self._take(frame) or ended
            self._echo()
        self.channel.sendall(protocol.encode(Type.DATA, b"error\n", stream=2))
        self.channel.sendall(protocol.encode_number(Type.EXIT, self.status))


def relayed(data: bytes, reader_delay: float = 0.0) -> tuple[Outcome, bytes, bytes, Guest]:
    """Run `data` through the relay and the guest; what came out on both streams."""
    ours, theirs = socket.socketpair()
    wire, their_wire = socket.socketpair()
    guest = Guest(theirs, their_wire)
    pipes = [os.pipe() for _ in range(3)]
    came: dict[int, bytes] = {}

    def write() -> None:
        with os.fdopen(pipes[0][1], "wb") as stream:
            stream.write(data)

    def read(number: int) -> None:
        time.sleep(reader_delay)
        with os.fdopen(pipes[number][0], "rb") as stream:
            came[number] = stream.read()

    threads = [
        threading.Thread(target=write),
        *(threading.Thread(target=read, args=[n]) for n in (1, 2)),
    ]
    for thread in (guest, *threads):
        thread.start()
    streams = (pipes[0][0], pipes[1][1], pipes[2][1])
    deadline = time.monotonic() + 60
    relay = Relay(ours, wire, Console(), ORDER, deadline=deadline, streams=streams)
    assert relay.booted(60)
    assert relay.woken(60)
    outcome = relay.run()
    for fd in streams:
        os.close(fd)
    for thread in (guest, *threads):
        thread.join()
    for one in (ours, theirs, wire, their_wire):
        one.close()
    return outcome, came[1], came[2], guest


@pytest.mark.parametrize("delay", [0.0, 0.3])
@pytest.mark.parametrize("size", [0, 1, 2_000_000])
def test_the_relay_passes_everything(size: int, delay: float) -> None:
    data = os.urandom(size)
    outcome, out, err, guest = relayed(data, delay)
    assert (outcome.wait_status, out, err) == (0, data, b"error\n")
    assert guest.most <= protocol.WINDOW
    assert guest.frames[0].type is Type.WAKE
    order = [(frame.type, frame.payload) for frame in guest.frames][1:7]
    assert order == [
        (Type.PROGRAM, b"/bin/prog"),
        (Type.FOLDER, b"/here"),
        (Type.ARGUMENT, b"prog"),
        (Type.ARGUMENT, b"a b"),
        (Type.VARIABLE, b"KB_X=1"),
        (Type.START, b""),
    ]


def test_the_relay_ends_without_the_machine() -> None:
    for late in (False, True):
        ours, theirs = socket.socketpair()
        wire, their_wire = socket.socketpair()
        if not late:
            theirs.close()
        deadline = time.monotonic() + 0.2
        relay = Relay(ours, wire, Console(), ORDER, deadline=deadline)
        assert not relay.booted(60)
        assert (relay.outcome.ended, relay.outcome.late) == (False, late)
        outcome = relay.run()
        assert (outcome.ended, outcome.late) == (False, late)
        for one in (ours, theirs, wire, their_wire):
            one.close()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"cpus": 0}, "--cpus"),
        ({"memory": 0}, "--memory"),
        ({"timeout": 0}, "--timeout"),
        ({"kernel": "../etc"}, "not a kernel release"),
        ({"kdir": "/nowhere"}, "no such kernel header folder"),
        ({"memory": 8, "dry_run": True, "kernel": "0.0.0"}, "do not fit"),
    ],
)
def test_wrong_requests(how: dict[str, object], said: str, temporary_cache: Path) -> None:
    assert temporary_cache
    with pytest.raises(KbridgeError, match=said) as caught:
        run.run(run.RunRequest("/bin/true", **how))  # type: ignore[arg-type]
    assert caught.value.status == 125


@pytest.mark.parametrize(
    ("outcome", "console", "status", "said"),
    [
        (Outcome(wait_status=7 << 8), b"", 7, ""),
        (Outcome(wait_status=13), b"", 141, ""),
        (Outcome(wait_status=11), b"", 139, "killed by SIGSEGV"),
        (Outcome(wait_status=9), b"[ 1.0] BUG: unable\n", 137, "kernel says: .*BUG: unable"),
        (Outcome(refused=2), b"", 127, "No such file"),
        (Outcome(refused=8), b"", 126, "Exec format error"),
        (Outcome(failure="no port"), b"", 1, "cannot run PROG: no port"),
        (Outcome(late=True), b"", 124, "not at its end after 9 s"),
        (Outcome(late=True), b"Kernel panic - not syncing: x\n", 123, "panicked: x"),
        (Outcome(), b"Kernel panic - not syncing: Oops\n", 123, "panicked: Oops"),
        (Outcome(), b"", 123, "ended before PROG"),
    ],
)
def test_statuses(outcome: Outcome, console: bytes, status: int, said: str) -> None:
    said_by_kernel = Console()
    said_by_kernel.take(console)
    program = run.Program(Path("/bin/prog"), (), None)
    request = run.RunRequest("prog", timeout=9)
    if not said:
        assert run._status(request, program, outcome, said_by_kernel) == status
        return
    with pytest.raises(KbridgeError, match=said) as caught:
        run._status(request, program, outcome, said_by_kernel)
    assert caught.value.status == status
    assert caught.value.hint


@pytest.mark.parametrize(
    ("outcome", "console"),
    [
        (Outcome(wait_status=9), b"[ 1.0] BUG: unable\n"),
        (Outcome(failure="no port"), b""),
        (Outcome(), b"Kernel panic - not syncing: Oops\n"),
    ],
)
def test_verbose_is_no_hint_where_it_is_given(outcome: Outcome, console: bytes) -> None:
    for verbose in (True, False):
        said = Console(show=verbose)
        said.take(console)
        request = run.RunRequest("prog", verbose=verbose)
        with pytest.raises(KbridgeError) as caught:
            run._status(request, run.Program(Path("/bin/prog"), (), None), outcome, said)
        assert ("--verbose" in str(caught.value.hint)) != verbose
        assert caught.value.hint


def test_running_here(tmp_path: Path) -> None:
    shell = Path("/bin/sh")
    assert native.run(shell, ["sh", "-c", "exit 7"], {}, None) == 7
    assert native.run(shell, ["sh", "-c", "kill -9 $$"], {}, 10) == -9
    assert native.run(shell, ["sh", "-c", "exec sleep 60"], {"PATH": "/bin"}, 0.2) is None
    with pytest.raises(OSError, match="No such file"):
        native.run(tmp_path / "nowhere", ["nowhere"], {}, None)
    assert not native.possible("0.0.0", None)
    (tmp_path / "run").mkdir(mode=0o755)
    with pytest.raises(KbridgeError, match="not root's own folder"):
        native.prepare(tmp_path / "run")
