# SPDX-License-Identifier: GPL-2.0-only
"""Packs files into an initramfs through the cpio program.

A staging folder names everything at its place in the guest; cpio reads the files through the
staging folder's links, so nothing is copied twice.  Not for choosing what goes in (contents.py).
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from kbridge import log, paths, proc
from kbridge.errors import KbridgeError

_LIMIT = (1 << 32) - 1  # a file's size in the newc form: eight hexadecimal digits
_MAX_LINKS = 41  # one more than the kernel follows (MAXSYMLINKS in linux/namei.h)
_MOUNTED = ("/proc", "/sys")  # the guest's own file systems hide what lies there


@dataclass
class Tree:
    """What the guest finds where.  Keys are absolute guest paths, in no order.

    `files`: the host's file; `links`: a symlink's text; `folders`: modes.
    """

    files: dict[str, Path] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    folders: dict[str, int] = field(default_factory=dict)

    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.stat().st_size for file in self.files.values())

    def _placed(self, guest: str, *, last: bool) -> str:
        """`guest` with the tree's own links followed, `last`: also where it is one itself."""
        done, todo, left = PurePosixPath("/"), list(_checked(guest).parts[1:]), _MAX_LINKS
        while todo:
            step = done / todo.pop(0)
            text = self.links.get(str(step)) if todo or last else None
            if text is None:
                done = done.parent if step.name == ".." else step
                continue
            left -= 1
            if not left:
                raise KbridgeError(f"{guest}: too many symlinks")
            words = PurePosixPath(text).parts
            done = PurePosixPath("/") if text.startswith("/") else done
            todo = [*(word for word in words if word != "/"), *todo]
        return str(done)

    def _claim(self, path: str, *kinds: Mapping[str, object]) -> None:
        """Raise KbridgeError where one of another kind lies at `path`; add its parents."""
        if any(path in kind for kind in kinds):
            raise KbridgeError(
                f"two different things for {path} in the guest",
                hint="name another place: --file HOST:GUEST",
            )
        for parent in list(PurePosixPath(path).parents)[:-1]:
            if str(parent) not in self.folders:
                self._claim(str(parent), self.files, self.links)
                self.folders[str(parent)] = 0o755

    def add_file(self, guest: str, host: Path) -> None:
        """One file of the host at `guest`.  Raises KbridgeError where it cannot be read."""
        try:
            size = host.stat().st_size
        except OSError as problem:
            raise KbridgeError(f"cannot read {host}: {problem.strerror}") from problem
        if not os.access(host, os.R_OK):
            raise KbridgeError(f"cannot read {host}", hint="make it readable")
        if size > _LIMIT:
            raise KbridgeError(f"{host}: {size >> 20} MiB, an initramfs takes files below 4 GiB")
        path = self._placed(guest, last=True)
        self._claim(path, self.folders, self.links)
        self.files[path] = host

    def add_link(self, guest: str, text: str) -> None:
        path = self._placed(guest, last=False)
        if self.links.get(path) != text:
            self._claim(path, self.folders, self.files, self.links)
            self.links[path] = text

    def add_folder(self, guest: str, mode: int = 0o755) -> None:
        path = self._placed(guest, last=True)
        self._claim(path, self.files, self.links)
        self.folders[path] = mode

    def add_same(self, path: Path) -> None:
        """The host's file at its own path, every symlink on the way kept as one."""
        done, todo, left = Path("/"), list(path.parts[1:]), _MAX_LINKS
        while todo:
            step = done / todo.pop(0)
            if step.name == "..":
                done = done.parent  # which has no symlink in it
            elif step.is_symlink():
                left -= 1
                if not left:
                    raise KbridgeError(f"{path}: too many symlinks")
                text = os.readlink(step)
                self.add_link(str(step), text)
                done = Path("/") if text.startswith("/") else done
                todo = [*(word for word in Path(text).parts if word != "/"), *todo]
            else:
                if todo:
                    self.add_folder(str(step))
                done = step
        self.add_file(str(done), done)

    def add_tree(self, guest: str, host: Path) -> None:
        """A file or folder of the host at `guest`, symlinks inside a folder kept."""
        if not host.exists():
            raise KbridgeError(f"{host}: no such file or folder", hint="--file HOST:GUEST")
        if not host.is_dir():
            self.add_file(guest, host)
            return
        self.add_folder(guest, stat.S_IMODE(host.stat().st_mode))
        for entry in sorted(host.iterdir()):
            inside = f"{guest.rstrip('/')}/{entry.name}"
            if entry.is_symlink():
                self.add_link(inside, os.readlink(entry))
            elif entry.is_dir():
                self.add_tree(inside, entry)
            elif entry.is_file():
                self.add_file(inside, entry)
            else:
                log.detail(f"{entry}: neither file nor folder, left out")


def _checked(guest: str) -> PurePosixPath:
    path = PurePosixPath(guest)
    if not path.is_absolute() or ".." in path.parts or len(path.parts) < 2 or "\n" in guest:
        raise KbridgeError(
            f"{guest!r} is no place in the guest", hint="give an absolute path without '..'"
        )
    if any(path.is_relative_to(folder) for folder in _MOUNTED) or (
        path.is_relative_to("/dev") and not path.is_relative_to("/dev/shm")
    ):
        raise KbridgeError(
            f"{guest}: the guest's own file system lies there",
            hint="copy it to another folder, or name another place: --file HOST:GUEST",
        )
    return path


def _names(names: Iterable[str]) -> str:
    """For cpio -0, folders before what is in them."""
    return "".join(f"{name[1:]}\0" for name in sorted(names, key=lambda n: PurePosixPath(n).parts))


def _cpio(folder: Path, names: str, output: Path, *options: str) -> None:
    # everything is root's in the guest, whoever packs it
    how = ["--create", "--format=newc", "--null", "--quiet", "--renumber-inodes", "-R", "+0:+0"]
    proc.run(
        ["cpio", *how, *options, f"--file={output}"],
        cwd=folder,
        input=names,
        what="packing the initramfs",
    )


def append(file: Path, output: BinaryIO) -> None:
    try:
        with file.open("rb") as stream:
            shutil.copyfileobj(stream, output)
        output.flush()
    except OSError as problem:
        raise KbridgeError(f"cannot write the initramfs: {problem.strerror}") from problem


def pack(tree: Tree, output: BinaryIO) -> None:
    """Append `tree` to an initramfs; the kernel takes one archive behind the other."""
    with paths.scratch("kbridge-stage-") as stage, paths.scratch("kbridge-cpio-") as made:
        for guest, mode in sorted(tree.folders.items()):
            place = stage / guest[1:]
            place.mkdir(parents=True, exist_ok=True)
            place.chmod(mode | 0o700)
        for guest, text in tree.links.items():
            (stage / guest[1:]).symlink_to(text)
        _cpio(stage, _names([*tree.folders, *tree.links]), made / "1")
        for guest, host in tree.files.items():
            place = stage / guest[1:]
            if place.is_symlink():
                place.unlink()
            place.symlink_to(host.absolute())
        _cpio(stage, _names(tree.files), made / "2", "--dereference")
        for part in ("1", "2"):
            append(made / part, output)
