# SPDX-License-Identifier: GPL-2.0-only
"""Decides what goes into the guest: the base that all programs share, and the program's own part.

The base is kept in the cache, keyed by what it is made of; see initramfs.py for the packing.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kbridge import log, paths, proc, runtime
from kbridge.errors import KbridgeError
from kbridge.kernels.image import KernelImage
from kbridge.vm import initramfs, modules
from kbridge.vm.program import Program

OURS = "/.kbridge"  # the guest's own folder, in its root

_FORM = "1"  # of the base; to be raised with every change that old cached files lack
_KEPT = 5  # bases of a kernel beside the newest
_INIT_FLAGS = ("-O2", "-s", "-static", "-std=gnu11", "-D_GNU_SOURCE")

_LOADER = Path("/lib64/ld-linux-x86-64.so.2")  # where the psABI has it
_LIBRARIES = Path("/etc/ld.so.cache")  # or the loader looks in its built-in folders only

# Enough of /etc for the C library; --file may put others in their place.
_ETC = {
    "/etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "/etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "/etc/hosts": "127.0.0.1 localhost kbridge\n::1 localhost\n",
    "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}


@dataclass(frozen=True)
class GuestFiles:
    """What programs with a kernel part need in the guest; None for what there is not.

    `libkernel` is the run-time file with slide 0; the guest adds the slide of its boot.
    """

    kelevate: Path | None = None
    libkbridge: Path | None = None
    libkernel: Path | None = None

    def named(self) -> list[tuple[str, Path]]:
        """Those that there are, by their names in the guest's own folder."""
        rows = (
            ("kelevate.ko", self.kelevate),
            ("libkbridge.so", self.libkbridge),
            ("libkernel.so", self.libkernel),
        )
        return [(name, file) for name, file in rows if file is not None]


def init_program() -> Path:
    """The guest's first process, compiled once for its sources."""
    shared = paths.source("runtime")
    sources = sorted([*paths.source("guest").glob("*.[ch]"), shared / "notes.c"])
    folders = runtime.include_folders()
    includes = [f"-I{folder}" for folder in folders]
    used = [*sources, *(file for folder in folders for file in folder.glob("*.h"))]
    output = paths.cache("guest") / f"init-{paths.fingerprint(used, *_INIT_FLAGS)}"
    if not output.is_file():
        with paths.scratch() as folder:
            made = folder / "init"
            compiled = [source for source in sources if source.suffix == ".c"]
            proc.run(
                ["gcc", *_INIT_FLAGS, *includes, "-o", made, *compiled],
                what="building the guest's init",
                hint="a static libc is needed: apt-get install libc6-dev",
            )
            paths.write_atomically(output, made.read_bytes(), mode=0o755)
    return output


def _identity(file: Path | None) -> str:
    if file is None:
        return "-"
    status = file.stat()
    return f"{file}:{status.st_size}:{status.st_mtime_ns}"


def write_modules(files: Sequence[Path], name: str, folder: Path) -> list[str]:
    """Modules as insmod takes them, and the list `name` of their order; the files written."""
    loaded = [f"{file.name.partition('.ko')[0]}.ko" for file in files]
    for module, file in zip(loaded, files, strict=True):
        (folder / module).write_bytes(modules.content(file))
    (folder / name).write_text("".join(f"{module}\n" for module in loaded))
    return [*loaded, name]


def add_modules(tree: initramfs.Tree, files: Sequence[Path], name: str, folder: Path) -> None:
    """Put modules into the guest, and the list `name` that tells in which order they load."""
    for written in write_modules(files, name, folder):
        tree.add_file(f"{OURS}/{written}", folder / written)


def _common() -> list[Path]:
    """This machine's C library and what finds it: of nearly every program the greater part.

    Python is linked with the same.
    """
    try:
        maps = Path("/proc/self/maps").read_text()
    except OSError:
        return []
    mapped = {Path(line.split(maxsplit=5)[-1]) for line in maps.splitlines() if ".so" in line}
    library = [file for file in mapped if file.name == "libc.so.6"]
    found = [*library, _LOADER, _LIBRARIES] if library else []
    return [file for file in found if os.access(file, os.R_OK)]


def base_tree(image: KernelImage, files: GuestFiles, folder: Path) -> initramfs.Tree:
    """The base; what has to be made for it is put in `folder`."""
    tree = initramfs.Tree()
    for file in _common():
        tree.add_same(file)
    for name, mode in (("/root", 0o700), ("/tmp", 0o1777), ("/run", 0o755), (OURS, 0o700)):
        tree.add_folder(name, mode)
    tree.add_file(f"{OURS}/init", init_program())
    add_modules(tree, modules.needed(image.modules), "modules", folder)
    for guest, text in _ETC.items():
        made = folder / guest.rpartition("/")[2]
        made.write_text(text)
        tree.add_file(guest, made)
    for name, file in files.named():
        tree.add_file(f"{OURS}/{name}", file)
    return tree


def base(image: KernelImage, files: GuestFiles) -> Path:
    """The initramfs that every program for this kernel starts with, from the cache."""
    parts = (image.vmlinuz, image.modules, files.kelevate, files.libkbridge, files.libkernel)
    words = [_FORM, init_program().name, *map(_identity, (*parts, *_common())), *_ETC.values()]
    key = hashlib.sha256("\0".join(words).encode()).hexdigest()[:20]
    output = paths.cache("initramfs") / f"{image.release}-{key}.cpio"
    if output.is_file():
        return output
    log.detail(f"packing the guest's base for kernel {image.release}")
    with paths.scratch() as folder:
        packed = folder / "packed"
        with packed.open("wb") as stream:
            initramfs.pack(base_tree(image, files, folder), stream)
        paths.write_atomically(output, packed.read_bytes())
    _prune(output, image.release)
    return output


def _prune(made: Path, release: str) -> None:
    """Those of earlier kelevates and C libraries go, all but the newest."""

    def age(file: Path) -> float:
        try:
            return file.stat().st_mtime
        except OSError:
            return 0.0  # another kbridge was here

    others = [file for file in made.parent.glob(f"{release}-*.cpio") if file != made]
    for old in sorted(others, key=age, reverse=True)[_KEPT:]:
        old.unlink(missing_ok=True)


def _split(word: str) -> tuple[Path, str]:
    host, colon, guest = word.rpartition(":")
    if not colon or not host or not guest:
        raise KbridgeError(
            f"--file {word}: not of the form HOST:GUEST", hint="e.g. --file data.txt:/tmp/data.txt"
        )
    return Path(host), guest


def program_tree(program: Program, files: Sequence[str]) -> initramfs.Tree:
    """PROG at its own path, its libraries at theirs, and what --file names."""
    tree = initramfs.Tree()
    for file in program.files:
        tree.add_same(file)
    if len(program.files) > 1 and os.access(_LIBRARIES, os.R_OK):
        tree.add_same(_LIBRARIES)
    for word in files:
        host, guest = _split(word)
        tree.add_tree(guest, host)
    return tree


def delivered(tree: initramfs.Tree) -> initramfs.Tree:
    """What of a program's tree is not in the base."""
    there = initramfs.Tree()
    for file in _common():
        there.add_same(file)
    files = {guest: host for guest, host in tree.files.items() if there.files.get(guest) != host}
    links = {guest: text for guest, text in tree.links.items() if there.links.get(guest) != text}
    return initramfs.Tree(files, links, tree.folders)


def check_memory(tree: initramfs.Tree, memory: int) -> None:
    """Raise KbridgeError where the files cannot fit: the guest's root is half its memory.

    `memory` is in MiB; 128 of them are the kernel's and the base's.
    """
    needed = 2 * (tree.size() >> 20) + 128
    if needed > memory:
        raise KbridgeError(
            f"PROG and its files, {tree.size() >> 20} MiB, do not fit in a guest of {memory} MiB",
            hint=f"give it more: --memory {needed}",
        )
