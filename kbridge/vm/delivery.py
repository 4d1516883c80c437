# SPDX-License-Identifier: GPL-2.0-only
"""The frames that put files into a running guest, made as they are sent: guest/delivery.c takes
them.

Not for choosing what goes in (contents.py).
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from kbridge.errors import KbridgeError
from kbridge.vm import protocol
from kbridge.vm.initramfs import Tree
from kbridge.vm.protocol import Type

_MODE = struct.Struct("<I")
_FILE = struct.Struct("<IQ")  # mode, nanoseconds since 1970 when it was last written


def _file(guest: str, host: Path) -> Iterator[bytes]:
    try:
        with host.open("rb") as stream:
            status = os.fstat(stream.fileno())
            head = _FILE.pack(stat.S_IMODE(status.st_mode), max(0, status.st_mtime_ns))
            yield protocol.encode(Type.MAKE_FILE, head + os.fsencode(guest))
            while piece := stream.read(protocol.MAX_PAYLOAD):
                yield protocol.encode(Type.CONTENT, piece)
    except OSError as problem:
        raise KbridgeError(f"cannot read {host}: {problem.strerror}") from problem


def frames(tree: Tree) -> Iterator[bytes]:
    """Folders before what is in them.  Raises KbridgeError where a file cannot be read."""
    for guest in sorted(tree.folders, key=lambda name: PurePosixPath(name).parts):
        head = _MODE.pack(tree.folders[guest])
        yield protocol.encode(Type.MAKE_FOLDER, head + os.fsencode(guest))
    for guest, text in tree.links.items():
        yield protocol.encode(Type.MAKE_LINK, os.fsencode(guest) + b"\0" + os.fsencode(text))
    for guest, host in tree.files.items():
        yield from _file(guest, host)
