# SPDX-License-Identifier: GPL-2.0-only
"""The QEMU command line, and what has to be probed for it.

Not for starting the machine that runs programs (machine.py).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kbridge import log, paths, proc
from kbridge.vm.contents import OURS

PROGRAM = "qemu-system-x86_64"
PORT = "kbridge"  # name of the virtio-serial port; guest/channel.c looks for it

# Without cmpxchg16b, which QEMU 7.2 emulates in a way that 6.12 (slab allocator, per CPU) may not
# survive; kernels and libatomic do as well without.  Programs that need it (x86-64-v2) can have
# another model, by the environment.
_CPU_VARIABLE = "KBRIDGE_QEMU_CPU"
_EMULATED_CPU = os.environ.get(_CPU_VARIABLE, "max,-cx16")

_PROBE_SECONDS = 10
_PROBE_VALUE = 0x2A  # isa-debug-exit ends QEMU with status 2 * value + 1

# quiet: what the kernel says while booting costs more time than all the rest; the guest turns
# the console on when it is up.  panic=-1: a panic ends the machine at once (with -no-reboot).
# tsc=reliable, no_timer_check: do not test the emulated clocks.
_KERNEL_WORDS = (
    "console=ttyS0",
    "panic=-1",
    "tsc=reliable",
    "no_timer_check",
    "cryptomgr.notests",
    "random.trust_cpu=on",
)


@dataclass(frozen=True)
class Machine:
    """What the machine is made of.  `memory` in MiB; `append` goes to the kernel as it is.

    `gdb` is a TCP port of this machine on which gdb can attach.  `options`: more of QEMU's.
    `start`: the words that name the first process; they end the kernel's command line.
    `cpu`: the processor, where it is emulated.
    """

    kernel: Path
    initramfs: Path
    cpus: int = 2
    memory: int = 512
    append: str = ""
    gdb: int | None = None
    verbose: bool = False
    options: tuple[str, ...] = ()
    start: tuple[str, ...] = ()
    cpu: str = _EMULATED_CPU


@dataclass(frozen=True)
class Memory:
    """The guest's memory is a file, which has a name as long as `descriptor` is open.

    `shared`: what the guest writes comes to lie there.  Else the machine starts with what does,
    and waits for the rest of its state.
    """

    descriptor: int
    shared: bool


@dataclass(frozen=True)
class Wires:
    """QEMU's chardevs: the rest of `-chardev KIND,id=...`."""

    console: tuple[str, str]
    channel: tuple[str, str]
    monitor: tuple[str, str] | None = None

    @classmethod
    def descriptors(cls, console: int, channel: int, monitor: int | None = None) -> Wires:
        """Sockets that QEMU inherits."""
        last = None if monitor is None else ("socket", f"fd={monitor}")
        return cls(("socket", f"fd={console}"), ("socket", f"fd={channel}"), last)

    @classmethod
    def by_hand(cls) -> Wires:
        """For a person who pastes the line: the console on the terminal, nobody on the channel."""
        return cls(("stdio", "signal=on"), ("null", ""))


def program() -> str:
    """The path of QEMU.  Raises KbridgeError that names the package."""
    found = shutil.which(PROGRAM)
    if not found:
        raise proc.missing_program(PROGRAM)
    return found


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unknown"


def _probe_rom() -> bytes:
    """A BIOS whose first instructions end QEMU: mov al, VALUE; out 0xf4, al; hlt."""
    code = bytes([0xB0, _PROBE_VALUE, 0xE6, 0xF4, 0xF4])
    return bytes(0xFFF0) + code.ljust(16, b"\xf4")


def starts(qemu: str, accelerator: str) -> str | None:
    """None where a guest really runs an instruction under "kvm" or "tcg", else what QEMU says; a
    device node alone says nothing.
    """
    with tempfile.NamedTemporaryFile(prefix="kbridge-probe-") as rom:
        rom.write(_probe_rom())
        rom.flush()
        devices = ["-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-bios", rom.name]
        argv = [
            qemu,
            "-M",
            f"q35,accel={accelerator}",
            "-cpu",
            "max",
            "-nodefaults",
            "-no-user-config",
        ]
        argv += ["-no-reboot", "-display", "none", "-m", "16", *devices]
        try:
            done = subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_PROBE_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as problem:
            return str(problem)
    if done.returncode == 2 * _PROBE_VALUE + 1:
        return None
    said = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return said[0] if said else proc.describe_exit(done.returncode)


def kvm_works() -> bool:
    """Whether machines can use KVM here; probed once for each boot of this machine and QEMU."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    qemu = program()
    status = Path(qemu).stat()
    identity = f"{_boot_id()}:{qemu}:{status.st_size}:{status.st_mtime_ns}:{os.geteuid()}"
    kept = paths.cache("kvm") / hashlib.sha256(identity.encode()).hexdigest()[:20]
    try:
        return kept.read_text() == "yes\n"
    except OSError:
        pass
    works = starts(qemu, "kvm") is None
    log.detail(f"/dev/kvm {'works' if works else 'is there and does not work'}")
    for old in kept.parent.iterdir():
        old.unlink(missing_ok=True)
    paths.write_atomically(kept, "yes\n" if works else "no\n")
    return works


def kernel_command_line(machine: Machine) -> str:
    first = () if machine.start else (f"rdinit={OURS}/init",)
    words = [*_KERNEL_WORDS, *first, "loglevel=7" if machine.verbose else "quiet", machine.append]
    if machine.gdb:
        words.append("no_hash_pointers")  # kelevate tells where it places an image
    words += machine.start
    return " ".join(filter(None, words))


def for_all_programs(machine: Machine, *, kvm: bool) -> Machine:
    """As programs of any origin need it, which may be built for x86-64-v2 (NumPy is, and so are
    whole distributions): they have cmpxchg16b, and the kernel alone does without.

    A kernel that is told so is "tainted", which the others need not be.
    """
    if kvm or _CPU_VARIABLE in os.environ:
        return machine
    return replace(machine, cpu="max", append=f"clearcpuid=cx16 {machine.append}".rstrip())


def _chardev(name: str, wire: tuple[str, str]) -> list[str]:
    kind, rest = wire
    return ["-chardev", ",".join(filter(None, (kind, f"id={name}", rest)))]


def comma(path: Path) -> str:
    """QEMU's option parser takes a doubled comma for one."""
    return str(path).replace(",", ",,")


def _memory(machine: Machine, memory: Memory | None) -> list[str]:
    size = f"{machine.memory}M"
    if memory is None:
        return ["-M", "q35", "-m", size]
    file = f"/proc/self/fd/{memory.descriptor}"
    share = "on" if memory.shared else "off"
    made = f"memory-backend-file,id=memory,size={size},mem-path={file},share={share}"
    waiting = [] if memory.shared else ["-S", "-incoming", "defer"]
    return ["-M", "q35,memory-backend=memory", "-m", size, "-object", made, *waiting]


def command(
    machine: Machine, wires: Wires, *, kvm: bool, memory: Memory | None = None
) -> list[str]:
    """The whole command line."""
    cpu = "max" if kvm else machine.cpu
    # one host thread for all processors: with one each, QEMU 7.2 can run an int3 that the kernel
    # has already patched over (static keys), and the guest panics
    accelerator = "kvm" if kvm else "tcg,thread=single"
    argv: Sequence[str] = [
        *(program(), "-accel", accelerator, "-cpu", cpu, "-smp", str(machine.cpus)),
        *_memory(machine, memory),
        *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
        *("-kernel", comma(machine.kernel), "-initrd", comma(machine.initramfs)),
        *("-append", kernel_command_line(machine)),
        *_chardev("console", wires.console),
        *("-serial", "chardev:console"),
        *_chardev("channel", wires.channel),
        *("-device", "virtio-serial-pci,max_ports=2"),
        *("-device", f"virtserialport,chardev=channel,name={PORT}"),
        *machine.options,
    ]
    if wires.monitor:
        argv = [*argv, *_chardev("monitor", wires.monitor), "-mon", "chardev=monitor,mode=control"]
    gdb = ["-gdb", f"tcp:127.0.0.1:{machine.gdb}"] if machine.gdb else []
    return [*argv, *gdb]
