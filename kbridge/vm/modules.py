# SPDX-License-Identifier: GPL-2.0-only
"""Chooses the modules that the guest loads: to reach its host, and for PROG; unpacks them.

Which of them are built in differs from kernel to kernel, so the image's own modules.builtin and
modules.dep decide, not its version.
"""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Callable, Sequence
from pathlib import Path

from kbridge import options
from kbridge.errors import KbridgeError, UsageError

CHANNEL = ("virtio_pci", "virtio_console")  # the port of the channel, on the PCI bus of q35


def _unzstd(data: bytes) -> bytes:
    import zstandard

    try:
        return zstandard.ZstdDecompressor().stream_reader(data).read()
    except zstandard.ZstdError as problem:
        raise ValueError(str(problem)) from problem


_UNPACK: dict[str, Callable[[bytes], bytes]] = {
    ".ko": bytes,
    ".xz": lzma.decompress,
    ".gz": gzip.decompress,
    ".zst": _unzstd,
}


def _name(file: str) -> str:
    """kernel/drivers/virtio/virtio_pci.ko.xz -> virtio_pci"""
    return file.rpartition("/")[2].partition(".ko")[0].replace("-", "_")


def _dependencies(modules: Path) -> dict[str, list[str]]:
    """Module name -> its file and those it needs, as modules.dep lists them."""
    try:
        text = (modules / "modules.dep").read_text()
    except OSError as problem:
        raise KbridgeError(
            f"cannot read {modules / 'modules.dep'}: {problem.strerror}",
            hint=f"make it, as root: depmod {modules.name}",
        ) from problem
    rows = [line.partition(":") for line in text.splitlines()]
    return {_name(file): [file, *needs.split()] for file, _, needs in rows}


def _built_in(modules: Path) -> set[str]:
    try:
        return {_name(line) for line in (modules / "modules.builtin").read_text().split()}
    except OSError:
        return set()


def known(modules: Path) -> set[str]:
    """The modules of the kernel, built in or not, by their names."""
    return {*_built_in(modules), *_dependencies(modules)}


def needed(modules: Path | None, names: tuple[str, ...] = CHANNEL) -> list[Path]:
    """The files of the modules `names`, each behind those that it needs; none if all built in.

    Without a module folder everything has to be built in.
    """
    if modules is None:
        return []
    built_in = _built_in(modules)
    wanted = [name for name in names if name not in built_in]
    if not wanted:
        return []
    table = _dependencies(modules)
    order: list[str] = []
    for name in wanted:
        if name not in table:
            raise KbridgeError(
                f"the kernel {modules.name} has no {name}, built in or as a module",
                hint="its configuration needs VIRTIO_PCI and VIRTIO_CONSOLE"
                if name in CHANNEL
                else "a kmod of the program uses its symbols: install it with the kernel's modules",
            )
        # depmod lists the dependencies of dependencies too, the deepest last
        order += reversed(table[name])
    return [modules / file for file in dict.fromkeys(order)]


def requested(modules: Path | None, names: Sequence[str]) -> tuple[str, ...]:
    """The modules that a user names, spelt as the kernel does.  UsageError where it has none so."""
    spelt = tuple(name.replace("-", "_") for name in names)
    if not spelt:
        return ()
    if modules is None:
        raise KbridgeError(
            f"no modules of the kernel here, so none can be loaded: {', '.join(names)}",
            hint="they belong in /lib/modules/RELEASE, where the kernel's package puts them",
        )
    there = known(modules)
    for name, asked in zip(spelt, names, strict=True):
        if name not in there:
            near = options.nearest(name, there)
            raise UsageError(
                f"--module {asked}: the kernel {modules.name} has no such module",
                hint=f"did you mean {near}?" if near else "modules.dep, beside them, lists all",
            )
    return spelt


def content(file: Path) -> bytes:
    """The module as insmod takes it.  Guests need no support for compressed modules."""
    try:
        data = file.read_bytes()
    except OSError as problem:
        raise KbridgeError(f"cannot read {file}: {problem.strerror}") from problem
    try:
        return _UNPACK[file.suffix](data)
    except (KeyError, EOFError, OSError, ValueError, lzma.LZMAError) as problem:
        raise KbridgeError(f"{file}: cannot unpack this module ({problem})") from problem
