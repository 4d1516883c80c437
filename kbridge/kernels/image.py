# SPDX-License-Identifier: GPL-2.0-only
"""Finds a kernel's image and modules; fetches them from the package archive where need be.

Never installs a package: what is fetched is unpacked in the user's cache.  Not for how symbols
are read out of the image (symbols/image.py), nor for headers (target.py); packages.py asks apt.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kbridge import log, paths, proc, progress
from kbridge.errors import KbridgeError, UsageError
from kbridge.kernels import packages, target
from kbridge.symbols import image as symbol_image
from kbridge.symbols.table import SymbolTable

_RELEASE = re.compile(r"[0-9][0-9A-Za-z.+~_-]*")


@dataclass(frozen=True)
class KernelImage:
    """`vmlinuz` as a boot loader takes it; `modules` is .../lib/modules/RELEASE, if there."""

    release: str
    vmlinuz: Path
    modules: Path | None


def _image(release: str, vmlinuz: Path, modules: Path) -> KernelImage | None:
    # Some distributions keep /boot/vmlinuz-* for root: then the cache's is as good.
    if not vmlinuz.is_file() or not os.access(vmlinuz, os.R_OK):
        return None
    # Header packages make lib/modules/RELEASE with nothing but links in it.
    return KernelImage(release, vmlinuz, modules if (modules / "kernel").is_dir() else None)


def _look(release: str) -> Iterator[tuple[Path, KernelImage | None]]:
    """Each place, in order, with the image found there."""
    modules = Path("/lib/modules") / release
    cached = paths.cache_place("images", release)
    for vmlinuz, its_modules in (
        (Path("/boot") / f"vmlinuz-{release}", modules),
        (modules / "vmlinuz", modules),
        (cached / "boot" / f"vmlinuz-{release}", cached / "lib/modules" / release),
    ):
        yield vmlinuz, _image(release, vmlinuz, its_modules)


def _refuse_missing(release: str, version: str | None, package: str) -> None:
    """Raise KbridgeError unless apt's lists offer the package in that version."""
    offered = packages.offered_versions(package)
    if version in offered or (version is None and offered):
        return
    if offered:
        raise KbridgeError(
            f"the package archive no longer has {package} {version}, the version of the "
            f"installed headers; it has {', '.join(offered)}",
            hint="run: apt-get update && apt-get install --only-upgrade "
            f"linux-headers-{release}; then build the program again",
        )
    known = [one.release for one in target.installed()]
    raise KbridgeError(
        f"the package archive has no {package}, as far as apt's package lists say",
        hint=f"{target.meant(release, known)}"
        "run: apt-get update; if the archive has dropped this kernel, take a newer one: "
        "apt-get install linux-headers-cloud-amd64, and build the program again",
    )


def _put_in_place(unpacked: Path, folder: Path) -> None:
    try:
        unpacked.rename(folder)
    except OSError as problem:
        if (folder / "boot").is_dir():
            return  # another kbridge was faster, with the same content
        raise KbridgeError(f"cannot make {folder}: {problem.strerror}") from problem


def _unpack(package: Path, release: str, folder: Path) -> None:
    """dpkg-deb -x, and what a kernel package's installation would add: modules.dep."""
    folder.mkdir()
    proc.run(["dpkg-deb", "-x", package, folder], what=f"unpacking {package.name}")
    usr = folder / "usr/lib/modules"
    if usr.is_dir() and not (folder / "lib/modules").is_dir():
        (folder / "lib").symlink_to("usr/lib")  # packages that know merged /usr only
    vmlinuz = folder / "boot" / f"vmlinuz-{release}"
    if not vmlinuz.is_file():
        raise KbridgeError(f"{package.name} has no boot/vmlinuz-{release}")
    if (folder / "lib/modules" / release / "kernel").is_dir():
        # of no user's PATH, as it is for root; but it works for all
        depmod = shutil.which("depmod", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        proc.run([depmod or "depmod", "-b", folder, release])
    shutil.rmtree(folder / "usr/share", ignore_errors=True)


def obtainable(release: str) -> tuple[str, str | None]:
    """The package with the image, and its version (None: any).  Raises KbridgeError where apt has
    none.
    """
    package = f"linux-image-{release}"
    packages.require_apt(
        f"no image of kernel {release} here",
        hint=f"put the image at /boot/vmlinuz-{release}, its modules at /lib/modules/{release}",
    )
    # the image must be of the same build as the headers
    version = packages.installed_version(f"linux-headers-{release}")
    _refuse_missing(release, version, package)
    return package, version


def _fetch(release: str) -> None:
    package, version = obtainable(release)
    folder = paths.cache("images") / release
    with paths.alone(folder.parent), packages.beside(folder) as temporary:
        if (folder / "boot").is_dir():
            return  # another kbridge fetched it meanwhile
        log.info(f"fetching the image of kernel {release} into the cache (once)")
        fetched = packages.download(package, version, temporary, what="the kernel image")
        with progress.doing(f"unpacking {fetched.name}"):
            _unpack(fetched, release, temporary / "unpacked")
        _put_in_place(temporary / "unpacked", folder)


def is_release(word: str) -> bool:
    """Whether a kernel could say this of itself."""
    return bool(_RELEASE.fullmatch(word))


def find(release: str, *, download: bool = True) -> KernelImage:
    """The image of the kernel `release`, fetched (once; some 30 MB) if `download` allows.

    Raises UsageError for a release that cannot be one, KbridgeError that says where it looked
    and what to do where there is no image.
    """
    if not is_release(release):
        raise UsageError(
            f"{release!r} is not a kernel release", hint="give it as uname -r says it there"
        )
    places = []
    for place, image in _look(release):
        if image:
            return image
        places.append(str(place))
    if not download:
        raise KbridgeError(
            f"no image of kernel {release}: looked for {', '.join(places)}",
            hint=f"kbridge run fetches the package linux-image-{release} into the cache",
        )
    _fetch(release)
    return find(release, download=False)


def of_build(release: str, build_id: str) -> KernelImage | None:
    """The image of that very build, of those that are here; None where there is none."""
    if not is_release(release):
        return None
    for _, image in _look(release):
        if image and symbol_image.cached(image.vmlinuz).build_id == build_id:
            return image
    return None


def symbols(release: str) -> SymbolTable:
    """Every symbol of that kernel's image, at slide 0 (found, or fetched, then cached)."""
    return symbol_image.cached(find(release).vmlinuz)
