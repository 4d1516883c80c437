# SPDX-License-Identifier: GPL-2.0-only
"""Saved states of machines that have booted and wait for a program, in the user's cache.

A state is a folder of three files: the guest's memory (sparse), the rest of QEMU's machine, and
what both are, with digests.  It is good for one user, one kernel, one QEMU, one set of options,
for a day: KASLR's choice and all else that the guest's kernel drew at random while it booted are
those of the state.  Not for the machine itself (machine.py).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from kbridge import log, paths
from kbridge.vm import qemu

_FORM = "1"  # to be raised with every change that older states lack
_BLOCK = 1 << 16
_SECONDS = 24 * 3600.0
_KEPT = 6  # states; the one that was not used for longest goes
_MEMORY, _DEVICES, _MANIFEST = "memory", "devices", "manifest"
_MOST = 8 << 20  # bytes of a manifest: what the console said is part of it
_SPARE = 256 << 20  # bytes of the disk that are left to others


class StateError(Exception):
    """A state that cannot be used; why."""


class StaleError(StateError):
    """Nothing is wrong with it but its age."""


def _identity(file: Path) -> str:
    status = file.stat()
    return f"{file}:{status.st_size}:{status.st_mtime_ns}"


def _processor() -> str:
    """What a state saved under KVM depends on: all of this boot of this machine.

    An emulated processor is the same everywhere.
    """
    files = (
        Path("/proc/sys/kernel/random/boot_id"),
        *Path("/sys/module").glob("kvm*/parameters/*"),
    )
    said = []
    for file in sorted(files):
        with contextlib.suppress(OSError):
            said.append(f"{file}={file.read_text().strip()}")
    return "\n".join(said)


def _made_of(machine: qemu.Machine, kvm: bool) -> list[str]:
    argv = qemu.command(machine, qemu.Wires.by_hand(), kvm=kvm)
    files = (Path(argv[0]), machine.kernel)
    # its name, among argv, tells what it is made of; two kbridge at once may each write it
    initramfs = str(machine.initramfs.stat().st_size)
    processor = _processor() if kvm else ""
    return [_FORM, str(os.geteuid()), processor, initramfs, *map(_identity, files), *argv]


def _blocks(descriptor: int) -> Iterator[tuple[int, bytes]]:
    """The blocks that are not all zero, by their offsets."""
    size, at = os.fstat(descriptor).st_size, 0
    nothing = bytes(_BLOCK)
    while at < size:
        try:
            data = os.lseek(descriptor, at, os.SEEK_DATA)
            end = os.lseek(descriptor, data, os.SEEK_HOLE)
        except OSError:  # ENXIO: only a hole is left
            return
        at = max(at, data // _BLOCK * _BLOCK)
        while at < end:
            block = os.pread(descriptor, _BLOCK, at)
            if block and block != nothing[: len(block)]:
                yield at, block
            at += _BLOCK


def _digest(descriptor: int, copy: int | None = None) -> str:
    """Of a file's size and content, however it lies on the disk; `copy`: written there, too."""
    size = os.fstat(descriptor).st_size
    digest = hashlib.sha256(size.to_bytes(8, "little"))
    for at, block in _blocks(descriptor):
        digest.update(at.to_bytes(8, "little"))
        digest.update(block)
        if copy is not None:
            os.pwrite(copy, block, at)
    if copy is not None:
        os.ftruncate(copy, size)
    return digest.hexdigest()


class State:
    """An opened state; whatever becomes of its folder, its files stay as they are."""

    def __init__(self, folder: Path, made_of: Sequence[str]) -> None:
        """Raises StateError, FileNotFoundError where there is none, and OSError where it may not
        be opened.
        """
        self._open: list[int] = []
        self.console = b""
        try:
            place = self._add(folder, os.O_DIRECTORY)
            for name in (_MEMORY, _DEVICES, _MANIFEST):
                self._add(name, os.O_RDWR, place)
            self._read(made_of)
        except OSError as problem:
            self.close()
            none = isinstance(problem, FileNotFoundError) and not folder.exists()
            if none or problem.errno in (errno.EROFS, errno.EACCES):
                raise
            what = problem.filename or "its files"
            raise StateError(f"{what}: {problem.strerror}") from problem
        except BaseException:
            self.close()
            raise

    def _add(self, path: Path | str, how: int, place: int | None = None) -> int:
        descriptor = os.open(path, how | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place)
        self._open.append(descriptor)
        status = os.fstat(descriptor)
        if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
            raise StateError(f"others than you own or can open {path}")
        return descriptor

    def _read(self, made_of: Sequence[str]) -> None:
        text = os.pread(self._open[3], _MOST, 0)
        try:
            manifest = json.loads(text)
            made, was = float(manifest["made"]), list(manifest["made_of"])
            self._digests = [str(manifest[_MEMORY]), str(manifest[_DEVICES])]
            self.console = str(manifest["console"]).encode("latin-1")
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as problem:
            raise StateError("its manifest is damaged") from problem
        if was != list(made_of):
            raise StateError("it was made of something else")
        age = time.time() - made
        if age < 0:
            raise StateError("it was made in the future")
        if not age < _SECONDS:
            raise StaleError("it is more than a day old")

    @property
    def memory(self) -> int:
        return self._open[1]

    @property
    def devices(self) -> int:
        return self._open[2]

    def check(self) -> None:
        """Compare the content with what was saved.  Raises StateError."""
        for name, descriptor, known in zip(
            (_MEMORY, _DEVICES), (self.memory, self.devices), self._digests, strict=True
        ):
            # opened anew: QEMU reads at the offset of the one that it inherits
            with open(f"/proc/self/fd/{descriptor}", "rb", buffering=0) as stream:
                if _digest(stream.fileno()) != known:
                    raise StateError(f"its file {name} is damaged")

    def close(self) -> None:
        while self._open:
            os.close(self._open.pop())


class Shelf:
    """Where the state of this machine is, or will be."""

    def __init__(self, machine: qemu.Machine, *, kvm: bool) -> None:
        self._made_of = _made_of(machine, kvm)
        key = hashlib.sha256("\0".join(self._made_of).encode()).hexdigest()[:24]
        self._all = paths.cache_place("states")
        self._folder = self._all / key

    def take(self) -> State | None:
        """The state, if there is a good one; one that is not is thrown away, and that is said."""
        try:
            state = State(self._folder, self._made_of)
        except OSError as problem:
            log.detail(f"no saved machine state: {problem}")
            return None
        except StaleError as problem:
            log.info(f"the saved machine state is not used: {problem}; booting anew")
            _remove(self._folder)
            return None
        except StateError as problem:
            self.discard(f"{problem}; booting anew")
            return None
        with contextlib.suppress(OSError):
            os.utime(self._folder)
        return state

    def discard(self, why: str) -> None:
        log.warning(f"the saved machine state is not used: {why}")
        _remove(self._folder)

    def put(self, memory: int, devices: int, console: bytes) -> None:
        """Keep the state that lies in these files, if there is none yet; `console`: what the
        machine has said so far.  Raises OSError, KbridgeError.
        """
        if self._folder.exists():  # another kbridge was faster
            return
        paths.cache("states").chmod(0o700)
        disk = os.statvfs(self._all)
        if os.fstat(memory).st_blocks * 512 + _SPARE > disk.f_bavail * disk.f_frsize:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._all))
        folder = Path(tempfile.mkdtemp(dir=self._all, prefix=".new-"))
        try:
            manifest = {"made": time.time(), "made_of": self._made_of}
            manifest["console"] = console.decode("latin-1")
            for name, source in ((_MEMORY, memory), (_DEVICES, devices)):
                copy = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                with open(copy, "wb", buffering=0):
                    manifest[name] = _digest(source, copy)
            paths.write_atomically(folder / _MANIFEST, json.dumps(manifest), mode=0o600)
            with contextlib.suppress(OSError):  # as above
                folder.rename(self._folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        self._prune()

    def _prune(self) -> None:
        kept = [folder for folder in self._all.iterdir() if not folder.name.startswith(".")]
        for old in sorted(kept, key=_used, reverse=True)[_KEPT:]:
            _remove(old)
        for left in self._all.glob(".*"):  # of a kbridge that was killed
            if time.time() - _used(left) > _SECONDS:
                shutil.rmtree(left, ignore_errors=True)


def _used(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:
        return 0.0


def _remove(folder: Path) -> None:
    """At once and whole, so that nobody finds half a state."""
    gone = folder.with_name(f".gone-{folder.name}-{os.getpid()}")
    with contextlib.suppress(OSError):
        folder.rename(gone)
        if gone.is_symlink():
            gone.unlink()
    shutil.rmtree(gone, ignore_errors=True)
