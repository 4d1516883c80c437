# SPDX-License-Identifier: GPL-2.0-only
"""Saved machine states: kept, found again, pruned; one that is damaged, foreign or old is thrown
away, and never used.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kbridge import paths
from kbridge.vm import qemu, states
from kbridge.vm.states import Shelf

MEMORY = bytes(300_000) + b"kernel" * 40_000 + bytes(1 << 20)
DEVICES = b"cpu, timers"
CONSOLE = b"[ 0.1] Linux \xff\n"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, temporary_cache: Path) -> qemu.Machine:
    assert temporary_cache
    for name in ("qemu", "vmlinuz", "initramfs"):
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(qemu, "program", lambda: str(tmp_path / "qemu"))
    return qemu.Machine(tmp_path / "vmlinuz", tmp_path / "initramfs")


def put(machine: qemu.Machine, memory: bytes = MEMORY) -> Path:
    """Save a state of the machine; its folder."""
    with tempfile.TemporaryFile() as one, tempfile.TemporaryFile() as two:
        one.write(memory)
        two.write(DEVICES)
        one.flush()
        two.flush()
        Shelf(machine, kvm=False).put(one.fileno(), two.fileno(), CONSOLE)
    return max(paths.cache("states").iterdir(), key=lambda folder: folder.stat().st_mtime_ns)


def taken(machine: qemu.Machine, *, kvm: bool = False) -> tuple[bytes, bytes] | None:
    """What a machine would go on with."""
    state = Shelf(machine, kvm=kvm).take()
    if state is None:
        return None
    with contextlib.closing(state):
        state.check()
        assert state.console == CONSOLE
        return os.pread(state.memory, 1 << 24, 0), os.pread(state.devices, 1 << 24, 0)


def test_a_state_comes_back_and_is_the_users_alone(machine: qemu.Machine) -> None:
    assert taken(machine) is None
    folder = put(machine)
    assert taken(machine) == (MEMORY, DEVICES)
    assert (folder / "memory").stat().st_blocks * 512 < len(MEMORY) // 2
    for file in (folder, *folder.iterdir()):
        assert file.stat().st_mode & 0o077 == 0


@given(
    st.lists(st.tuples(st.integers(0, 3 << 16), st.binary(min_size=1, max_size=300)), max_size=6)
)
@settings(max_examples=60)
def test_memory_is_copied_as_it_is(pieces: list[tuple[int, bytes]]) -> None:
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as copy:
        for at, piece in pieces:
            os.pwrite(source.fileno(), piece, at)
        digest = states._digest(source.fileno(), copy.fileno())
        source.seek(0)
        copy.seek(0)
        assert source.read() == copy.read()
        assert states._digest(copy.fileno()) == digest
        os.ftruncate(copy.fileno(), 4 << 16)  # nothing but a hole more
        assert states._digest(copy.fileno()) != digest


def test_every_difference_makes_it_another_machine(machine: qemu.Machine, tmp_path: Path) -> None:
    put(machine)
    assert taken(replace(machine, cpus=3)) is None
    assert taken(replace(machine, memory=513)) is None
    assert taken(replace(machine, append="nokaslr")) is None
    assert taken(machine, kvm=True) is None
    for name in ("qemu", "vmlinuz", "initramfs"):
        (tmp_path / name).write_text(f"another {name}")
        assert taken(machine) is None
        (tmp_path / name).write_text(name)
        # a kernel or QEMU that was written anew is perhaps another
        assert (taken(machine) is None) == (name != "initramfs")
        put(machine)
        assert taken(machine)


def _age(folder: Path, seconds: float) -> None:
    manifest = json.loads((folder / "manifest").read_text())
    manifest["made"] -= seconds
    (folder / "manifest").write_text(json.dumps(manifest))


def _made(folder: Path, when: int) -> None:
    manifest = json.loads((folder / "manifest").read_text())
    manifest["made"] = 0
    text = json.dumps(manifest).replace('"made": 0', f'"made": {when}')
    (folder / "manifest").write_text(text)


def _pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file, 0o600)


def _other(folder: Path) -> None:
    manifest = json.loads((folder / "manifest").read_text())
    manifest["made_of"][-1] = "other"
    (folder / "manifest").write_text(json.dumps(manifest))


def _link(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to("elsewhere")


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda folder: os.truncate(folder / "memory", 1000), "memory is damaged"),
        (lambda folder: os.truncate(folder / "memory", len(MEMORY) + 1), "memory is damaged"),
        (lambda folder: (folder / "devices").write_bytes(b"cpu, timerz"), "devices is damaged"),
        (lambda folder: (folder / "devices").unlink(), "devices: No such file"),
        (lambda folder: (folder / "manifest").write_text("{"), "manifest is damaged"),
        (lambda folder: (folder / "manifest").write_bytes(b"\xff\x00"), "manifest is damaged"),
        (lambda folder: (folder / "manifest").write_text("[]"), "manifest is damaged"),
        (lambda folder: (folder / "memory").chmod(0o640), "others than you"),
        (lambda folder: folder.chmod(0o755), "others than you"),
        (lambda folder: _age(folder, 25 * 3600), "more than a day old"),
        (lambda folder: _age(folder, -3600), "made in the future"),
        (lambda folder: _made(folder, 10**400), "manifest is damaged"),
        (lambda folder: (folder / "manifest").write_text("[" * 100_000), "manifest is damaged"),
        (lambda folder: _pipe(folder / "manifest"), "its files: Illegal seek"),
        (_other, "made of something else"),
        (_link, "Not a directory"),
        (lambda folder: (shutil.rmtree(folder), folder.write_text("")), "Not a directory"),
    ],
)
def test_a_bad_state_is_thrown_away(
    machine: qemu.Machine,
    harm: Callable[[Path], object],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = put(machine)
    harm(folder)
    shelf = Shelf(machine, kvm=False)
    state = shelf.take()
    if state:
        with contextlib.closing(state), pytest.raises(states.StateError, match=said) as caught:
            state.check()
        shelf.discard(str(caught.value))
    error = capsys.readouterr().err
    assert "the saved machine state is not used" in error
    assert said in error
    assert taken(machine) is None
    assert not capsys.readouterr().err
    put(machine)
    assert taken(machine) == (MEMORY, DEVICES)


def test_states_of_another_user_are_not_used(
    machine: qemu.Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = put(machine)
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    assert taken(machine) is None  # another name
    folder.rename(Shelf(machine, kvm=False)._folder)
    assert taken(machine) is None  # and the owner is looked at


def test_a_state_that_cannot_be_opened_is_left_alone(
    machine: qemu.Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = put(machine)

    def refuse(*_: object, **__: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refuse)
        assert Shelf(machine, kvm=False).take() is None
    assert not capsys.readouterr().err
    assert taken(machine) == (MEMORY, DEVICES)
    assert folder.is_dir()


def test_a_full_disk(machine: qemu.Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is left as it is: nothing is written that would not find room."""
    disk = os.statvfs("/")
    little = os.statvfs_result((disk.f_bsize, disk.f_frsize, *[1] * 8))
    monkeypatch.setattr(os, "statvfs", lambda _: little)
    with pytest.raises(OSError, match="No space left"):
        put(machine)
    assert not list(paths.cache("states").iterdir())


def test_the_oldest_go(machine: qemu.Machine) -> None:
    for cpus in range(1, 10):
        put(replace(machine, cpus=cpus))
    left = [cpus for cpus in range(1, 10) if taken(replace(machine, cpus=cpus))]
    assert left == list(range(10 - states._KEPT, 10))


def test_a_second_state_of_one_machine_is_dropped(machine: qemu.Machine) -> None:
    put(machine)
    put(machine, MEMORY[::-1])
    assert taken(machine) == (MEMORY, DEVICES)
    assert len(list(paths.cache("states").iterdir())) == 1
