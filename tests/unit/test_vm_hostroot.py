# SPDX-License-Identifier: GPL-2.0-only
"""--root host: which kernels can, what is taken from virtme-ng, and what is said without it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kbridge.errors import KbridgeError, UsageError
from kbridge.kernels import target
from kbridge.kernels.image import KernelImage
from kbridge.verbs import run
from kbridge.vm import hostroot, qemu

COMMAND = (
    "/usr/bin/qemu-system-x86_64 -m 1G -fsdev local,id=virtfs3,path=/,readonly=on -device "
    "virtio-9p-pci,fsdev=virtfs3,mount_tag=/dev/root -device i6300esb,id=watchdog0 -append "
    "'a \"b c\"'"
)


def kernel(folder: Path, *names: str) -> KernelImage:
    modules = folder / "lib/modules/0.1.2"
    modules.mkdir(parents=True)
    lines = [f"kernel/fs/{name}.ko:\n" for name in names]
    (modules / "modules.dep").write_text("".join(lines))
    (modules / "modules.builtin").write_text("kernel/fs/overlayfs/overlay.ko\n")
    return KernelImage("0.1.2", folder / "vmlinuz", modules)


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands in for virtme-run; a static busybox is there."""
    made = tmp_path / "virtme-run"
    monkeypatch.setattr(hostroot, "_tool", lambda: made)
    monkeypatch.setattr(hostroot, "_check_busybox", lambda: None)
    return made


def write(tool: Path, *lines: str) -> None:
    tool.write_text("\n".join(["#!/bin/sh", *lines]))
    tool.chmod(0o755)


def test_which_kernels_can(tmp_path: Path) -> None:
    assert hostroot.lacks(kernel(tmp_path / "1", "9p", "9pnet_virtio")) == []
    assert hostroot.lacks(kernel(tmp_path / "2", "9p")) == ["9pnet_virtio"]
    assert hostroot.lacks(KernelImage("0.1.2", tmp_path, None)) == list(hostroot.MODULES)


def test_a_kernel_without_9p_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = kernel(tmp_path)
    monkeypatch.setattr(hostroot.images, "find", lambda *_, **__: image)
    with pytest.raises(KbridgeError) as caught:
        hostroot.find("0.1.2-cloud-amd64")
    assert "kernel 0.1.2-cloud-amd64 has no 9p, 9pnet_virtio" in caught.value.message
    assert caught.value.hint
    assert "--kernel 0.1.2-amd64" in caught.value.hint


def test_what_is_taken_from_virtme_ng(tool: Path, tmp_path: Path) -> None:
    write(
        tool,
        'while [ "$1" != --save-initramfs ]; do shift; done; echo x >"$2"',
        f"cat <<'END'\nwarning: something\n{COMMAND}\nEND",
    )
    root = hostroot.prepare(kernel(tmp_path), tmp_path)
    assert root.options == (
        *("-fsdev", "local,id=virtfs3,path=/,readonly=on"),
        *("-device", "virtio-9p-pci,fsdev=virtfs3,mount_tag=/dev/root"),
    )
    assert root.initramfs.read_text() == "x\n"
    assert root.start == (f"init={tmp_path}/init", "--", f"kbridge-root={tmp_path}")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["echo 'no such kernel' >&2; exit 1"], "asking virtme-ng"),
        (["echo qemu -device x"], "virtme-ng names no 9p root"),
        (["true"], "virtme-ng names no 9p root"),
        ([f"cat <<'END'\n{COMMAND}\nEND"], "virtme-ng names no 9p root"),  # no initramfs
    ],
)
def test_another_virtme_ng(tool: Path, tmp_path: Path, lines: list[str], expected: str) -> None:
    write(tool, *lines)
    with pytest.raises(KbridgeError) as caught:
        hostroot.prepare(kernel(tmp_path), tmp_path)
    assert expected in caught.value.message
    assert caught.value.hint


def test_without_virtme_ng(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostroot.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(hostroot.shutil, "which", lambda *_: None)
    with pytest.raises(KbridgeError) as caught:
        hostroot._tool()
    assert "pip install virtme-ng==1.42" in (caught.value.hint or "")
    with pytest.raises(KbridgeError) as caught:
        hostroot._check_busybox()
    assert "apt-get install busybox-static" in (caught.value.hint or "")


def test_the_first_process_is_named_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu, "program", lambda: "qemu")
    machine = qemu.Machine(
        Path("/k"), Path("/i"), append="one", options=("-fsdev", "x"), start=("init=/a", "--", "/b")
    )
    words = qemu.kernel_command_line(machine).split()
    assert words[-4:] == ["one", "init=/a", "--", "/b"]
    assert not any(word.startswith("rdinit=") for word in words)
    assert qemu.command(machine, qemu.Wires.by_hand(), kvm=False)[-2:] == ["-fsdev", "x"]


def test_programs_of_the_host_have_its_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    """cmpxchg16b, without which x86-64-v2 is refused: for programs only, not for the kernel."""
    monkeypatch.delenv("KBRIDGE_QEMU_CPU", raising=False)
    monkeypatch.setattr(qemu, "program", lambda: "qemu")
    machine = qemu.Machine(Path("/k"), Path("/i"), append="one", cpu="max,-cx16")
    made = qemu.for_all_programs(machine, kvm=False)
    argv = qemu.command(made, qemu.Wires.by_hand(), kvm=False)
    assert argv[argv.index("-cpu") + 1] == "max"
    assert "clearcpuid=cx16 one" in argv[argv.index("-append") + 1]
    assert qemu.for_all_programs(machine, kvm=True) == machine
    monkeypatch.setenv("KBRIDGE_QEMU_CPU", "max,-cx16")
    assert qemu.for_all_programs(machine, kvm=False) == machine


def test_fetched_headers_are_found(temporary_cache: Path) -> None:
    """What --root host has fetched can be built for by its name."""
    kdir = temporary_cache / "headers/9.9.9-x/usr/src/linux-headers-9.9.9-x"
    with pytest.raises(UsageError):
        target.find("9.9.9-x")
    (kdir / "include/generated").mkdir(parents=True)
    (kdir / "Makefile").touch()
    assert target.find("9.9.9-x") == target.KernelTarget("9.9.9-x", kdir)
    assert hostroot.headers("9.9.9-x").kdir == kdir


def test_files_need_no_share() -> None:
    request = run.RunRequest(program="/bin/true", root="host", files=["a:/b"])
    with pytest.raises(KbridgeError) as caught:
        run.run(request)
    assert "--root host and --file" in caught.value.message
    assert caught.value.status == run.OWN_FAILURE
