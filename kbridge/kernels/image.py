# SPDX-License-Identifier: GPL-2.0-only
"""Finds a kernel's image and modules; fetches them from the package archive where need be.

Never installs a package: what is fetched is unpacked in the user's cache.  Not for reading
symbols out of the image (symbols/image.py), nor for headers (target.py).
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kbridge import log, paths, proc
from kbridge.errors import CommandError, KbridgeError, UsageError

# What apt says when the fault is the connection, not the archive's content.
_NO_NETWORK = re.compile(
    r"Could not (?:resolve|connect)|Temporary failure|Unable to connect|Network is unreachable"
    r"|Connection (?:failed|timed out|refused)|No route to host"
)
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
    cached = paths.cache("images") / release
    for vmlinuz, its_modules in (
        (Path("/boot") / f"vmlinuz-{release}", modules),
        (modules / "vmlinuz", modules),
        (cached / "boot" / f"vmlinuz-{release}", cached / "lib/modules" / release),
    ):
        yield vmlinuz, _image(release, vmlinuz, its_modules)


def _headers_version(release: str) -> str | None:
    """The version of the installed header package: the image must be of the same build."""
    if not shutil.which("dpkg-query"):
        return None
    query = ["dpkg-query", "--show", "--showformat=${db:Status-Status} ${Version}"]
    shown = proc.run([*query, f"linux-headers-{release}"], check=False)
    status, _, version = shown.stdout.partition(" ")
    return version if shown.returncode == 0 and status == "installed" else None


def _offered_versions(package: str) -> list[str]:
    """The versions that apt's package lists have, newest first."""
    shown = proc.run(["apt-cache", "madison", package], check=False)
    if shown.returncode and shown.stderr.strip():
        raise CommandError(
            "apt cannot read its package lists", stderr=shown.stderr, hint="see apt's words above"
        )
    fields = [line.split("|") for line in shown.stdout.splitlines()]
    return [parts[1].strip() for parts in fields if len(parts) == 3]


def _refuse_missing(release: str, version: str | None, package: str) -> None:
    """Raise KbridgeError unless apt's lists offer the package in that version."""
    offered = _offered_versions(package)
    if version in offered or (version is None and offered):
        return
    if offered:
        raise KbridgeError(
            f"the package archive no longer has {package} {version}, the version of the "
            f"installed headers; it has {', '.join(offered)}",
            hint="run: apt-get update && apt-get install --only-upgrade "
            f"linux-headers-{release}; then build the program again",
        )
    raise KbridgeError(
        f"the package archive has no {package}, as far as apt's package lists say",
        hint="run: apt-get update; if the archive has dropped this kernel, take a newer one: "
        "apt-get install linux-headers-cloud-amd64, and build the program again",
    )


def _download_error(problem: CommandError, wanted: str) -> KbridgeError:
    if _NO_NETWORK.search(problem.stderr):
        hint = "no network, or a proxy is needed (apt takes it from http_proxy): check, repeat"
    elif "404" in problem.stderr:
        hint = "apt's package lists are out of date: apt-get update, then repeat"
    else:
        hint = f"try it by hand: apt-get download {wanted}"
    return CommandError(
        f"cannot fetch the kernel image {wanted}",
        stderr=problem.stderr,
        returncode=problem.returncode,
        hint=hint,
    )


@contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    """A temporary folder on the file system of `folder`, so that one rename puts it there."""
    try:
        temporary = Path(tempfile.mkdtemp(prefix=".fetch-", dir=folder.parent))
    except OSError as problem:
        raise KbridgeError(f"cannot write in {folder.parent}: {problem.strerror}") from problem
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


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


def _fetch(release: str) -> None:
    package = f"linux-image-{release}"
    for tool in ("apt-get", "apt-cache", "dpkg-deb"):
        if not shutil.which(tool):
            raise KbridgeError(
                f"no image of kernel {release} here, and no {tool} to fetch one with",
                hint=f"put the image at /boot/vmlinuz-{release}, "
                f"its modules at /lib/modules/{release}",
            )
    version = _headers_version(release)
    _refuse_missing(release, version, package)
    wanted = f"{package}={version}" if version else package
    folder = paths.cache("images") / release
    log.info(f"fetching the image of kernel {release} into the cache (once)")
    with _beside(folder) as temporary:
        # apt drops root's rights for the download, to a user that may not enter here
        option = ["-o", "APT::Sandbox::User=root"] if os.geteuid() == 0 else []
        try:
            proc.run(["apt-get", *option, "download", wanted], cwd=temporary)
        except CommandError as problem:
            raise _download_error(problem, wanted) from problem
        fetched = next(iter(temporary.glob("*.deb")), None)
        if fetched is None:
            raise KbridgeError(f"apt-get download {wanted} left no package")
        _unpack(fetched, release, temporary / "unpacked")
        _put_in_place(temporary / "unpacked", folder)


def find(release: str, *, download: bool = True) -> KernelImage:
    """The image of the kernel `release`, fetched (once; some 30 MB) if `download` allows.

    Raises UsageError for a release that cannot be one, KbridgeError that says where it looked
    and what to do where there is no image.
    """
    if not _RELEASE.fullmatch(release):
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
