# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's own source files, from the package linux-source-X.Y; kept in the user's cache.

Only what modules are made of is unpacked: C files, headers and Makefiles of the folders that hold
modules; and checkpatch.  Never installs the package.
"""

from __future__ import annotations

import re
import tarfile
from pathlib import Path

from kbridge import log, paths, proc
from kbridge.errors import KbridgeError, UsageError
from kbridge.kernels import packages

FOLDERS = (
    "block", "crypto", "drivers", "fs", "io_uring", "kernel", "lib", "mm", "net", "samples",
    "security", "sound", "virt",
)  # fmt: skip
# half of all source text, most of it generated; its drivers are made of many files each
_LEFT_OUT = "drivers/gpu/drm/"
_CHECKPATCH = ("checkpatch.pl", "const_structs.checkpatch", "spelling.txt")
_SELECTION = 2  # another one whenever something else is unpacked


def _is_wanted(name: str) -> bool:
    top, _, rest = name.partition("/")
    if top == "scripts":
        return rest in _CHECKPATCH
    if top not in FOLDERS or not rest or name.startswith(_LEFT_OUT):
        return False
    return name.endswith((".c", ".h")) or rest.rpartition("/")[2] in ("Makefile", "Kbuild")


def _extract(tarball: Path, folder: Path) -> None:
    with tarfile.open(tarball, "r|xz") as archive:
        for member in archive:
            # linux-source-6.1/drivers/net/dummy.c
            name = member.name.removeprefix("./").partition("/")[2]
            content = archive.extractfile(member) if _is_wanted(name) and member.isfile() else None
            if content is not None:
                made = folder / name
                made.parent.mkdir(parents=True, exist_ok=True)
                made.write_bytes(content.read())


def _unpack(package: Path, folder: Path) -> None:
    whole = package.with_suffix("")
    proc.run(["dpkg-deb", "-x", package, whole], what=f"unpacking {package.name}")
    tarball = next(iter(whole.glob("usr/src/linux-source-*.tar.xz")), None)
    if tarball is None:
        raise KbridgeError(f"{package.name} has no usr/src/linux-source-*.tar.xz")
    folder.mkdir()
    try:
        _extract(tarball, folder)
    except (tarfile.TarError, OSError, EOFError) as problem:
        raise KbridgeError(f"{tarball.name}: cannot unpack it ({problem})") from problem


def _choose(package: str, version: str | None) -> str:
    """The version that the headers are of, else the newest that the archive has."""
    offered = packages.offered_versions(package)
    if not offered:
        raise KbridgeError(
            f"the package archive has no {package}, as far as apt's package lists say",
            hint="run: apt-get update",
        )
    if version in offered:
        return version
    if version:
        log.warning(f"the archive no longer has {package} {version}; taking {offered[0]}")
    return offered[0]


def tree(release: str) -> Path:
    """The folder with the sources of the kernel `release`, fetched (once; some 140 MB).

    Raises KbridgeError where it cannot be had.
    """
    series = re.match(r"\d+\.\d+", release)
    if not series:
        raise UsageError(f"{release!r} is not a kernel release", hint="give it as uname -r says it")
    package = f"linux-source-{series[0]}"
    version = packages.installed_version(f"linux-headers-{release}")
    cache = paths.cache("sources")
    if version is None or not (cache / f"{package}_{version}_{_SELECTION}").is_dir():
        packages.require_apt(
            f"no {package} here", hint="the sources come from Debian's package archive"
        )
        version = _choose(package, version)
    folder = cache / f"{package}_{version}_{_SELECTION}"
    if not folder.is_dir():
        log.info(f"fetching {package} {version} into the cache (once; 140 MB, 600 MB unpacked)")
        with packages.beside(folder) as temporary:
            fetched = packages.download(package, version, temporary, what="the kernel sources")
            _unpack(fetched, temporary / "tree")
            try:
                (temporary / "tree").rename(folder)
            except OSError as problem:
                if not folder.is_dir():  # where it is one, another process was faster
                    raise KbridgeError(f"cannot make {folder}: {problem.strerror}") from problem
    return folder


def checkpatch(release: str) -> Path:
    """The kernel's own scripts/checkpatch.pl, with the lists that it reads beside it."""
    return tree(release) / "scripts" / _CHECKPATCH[0]
