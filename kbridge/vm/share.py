# SPDX-License-Identifier: GPL-2.0-only
"""`--root FOLDER`: a guest whose root is a folder of this machine, with memory over it.

QEMU shares the folder over 9p, read-only; the guest's first process, out of kbridge's own
initramfs, mounts it, lays memory over it and goes on there (guest/mounts.c).  A folder need not
hold anything but the program: no init, no shell, no modules.

Not for this machine's own root (hostroot.py), nor for what is in the folder (rooted.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kbridge.kernels.image import KernelImage
from kbridge.vm import contents, hostroot, initramfs, modules, qemu, rooted

FOLDER = "/"  # the working folder: those of this machine mean nothing there

_TAG = "kbridge-root"
START = (f"rdinit={contents.OURS}/init", "--", f"kbridge-share={_TAG}")

# of this machine's folders, libraries and users
_NOT_THERE = frozenset({"HOME", "LOGNAME", "PATH", "USER"})
_NOT_THERE_PREFIXES = ("LD_", "PYTHON")


def options(folder: Path) -> tuple[str, ...]:
    """QEMU's.  Several file systems below `folder` keep inodes of their own (multidevs)."""
    path = qemu.comma(folder)
    how = "security_model=none,multidevs=remap,readonly=on"
    return (
        *("-fsdev", f"local,id={_TAG},path={path},{how}"),
        *("-device", f"virtio-9p-pci,fsdev={_TAG},mount_tag={_TAG}"),
    )


def variables(passed: dict[str, str]) -> dict[str, str]:
    """Of those that a program gets in a guest, those that mean something in another root."""
    kept = {
        name: value
        for name, value in passed.items()
        if name not in _NOT_THERE and not name.startswith(_NOT_THERE_PREFIXES)
    }
    return {"HOME": "/root", "PATH": ":".join(rooted.PATH), **kept, "PWD": FOLDER}


def tree(image: KernelImage, loaded: Sequence[Path], folder: Path) -> initramfs.Tree:
    """What the initramfs has beside the base: the modules that mount the share, and `loaded`.

    What has to be made for it is put in `folder`.
    """
    made = initramfs.Tree()
    names = (*modules.CHANNEL, *hostroot.MODULES)
    contents.add_modules(made, modules.needed(image.modules, names), "root-modules", folder)
    contents.add_modules(made, loaded, "program-modules", folder)
    return made
