# SPDX-License-Identifier: GPL-2.0-only
"""Finds the kernel that a program is built for: its release and its header folder (KDIR).

Not for kernel images (image.py), nor for compiler flags (kbuild.py).
"""

from __future__ import annotations

import difflib
import functools
import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kbridge import log, paths
from kbridge.errors import KbridgeError, UsageError
from kbridge.kernels import container

HEADER_ROOTS = ("/lib/modules/{release}/build", "/usr/src/linux-headers-{release}")


@dataclass(frozen=True)
class KernelTarget:
    """A kernel with headers: `release` as uname -r says it there, `kdir` as for make -C."""

    release: str
    kdir: Path


def _is_kdir(folder: Path) -> bool:
    return (folder / "Makefile").is_file() and (folder / "include/generated").is_dir()


def release_of(kdir: Path) -> str:
    """The release that the prepared header folder is for, as uname -r says it there.

    Source: UTS_RELEASE in include/generated/utsrelease.h, else include/config/kernel.release
    (which in Debian's header packages holds the upstream version instead).
    """
    try:
        text = (kdir / "include/generated/utsrelease.h").read_text()
        found = re.search(r'UTS_RELEASE\s+"([^"]+)"', text)
        if found:
            return found[1]
        return (kdir / "include/config/kernel.release").read_text().strip()
    except OSError:
        pass
    raise KbridgeError(
        f"{kdir}: no kernel release there (looked for include/generated/utsrelease.h "
        "and include/config/kernel.release)",
        hint="a kernel source tree must be configured and prepared: make modules_prepare",
    )


def installed() -> list[KernelTarget]:
    """Every kernel whose headers are installed, oldest first."""
    found: dict[str, KernelTarget] = {}
    for folder in [
        *Path("/lib/modules").glob("*/build"),
        *Path("/usr/src").glob("linux-headers-*"),
    ]:
        if _is_kdir(folder):
            release = release_of(folder)
            found.setdefault(release, KernelTarget(release, folder))
    return sorted(found.values(), key=lambda target: release_key(target.release))


def release_key(release: str) -> tuple[tuple[int, int, str], ...]:
    """Sorts releases as people read them: 6.12 after 6.1, numbers as numbers."""
    words = re.findall(r"\d+|[a-z]+", release)
    return tuple((1, int(word), "") if word.isdigit() else (0, 0, word) for word in words)


def meant(release: str, known: Sequence[str]) -> str:
    """A question for hints, 'did you mean R? If not: ', where a known release is near; else ''."""
    if release in known:
        return ""
    begin = [one for one in known if one.startswith(release)]
    near = difflib.get_close_matches(release, known, n=3, cutoff=0.7)
    found = list(dict.fromkeys([*begin, *near]))[:3]
    return f"did you mean {' or '.join(found)}? If not: " if found else ""


def fetched(release: str) -> Path:
    """Where the headers of a kernel are that `kbridge run --root host` has fetched, if it has."""
    return paths.cache_place("headers", release, "usr/src", f"linux-headers-{release}")


def _by_release(release: str) -> KernelTarget:
    looked = [Path(root.format(release=release)) for root in HEADER_ROOTS]
    for folder in [*looked, fetched(release)]:
        if _is_kdir(folder):
            return KernelTarget(release, folder)
    names = [target.release for target in installed()]
    question = meant(release, names)
    package = f"apt-get install linux-headers-{release}"
    if question:
        hint = f"{question}{package}"
    elif names:
        hint = f"installed: {', '.join(names[-3:])}; or: {package}"
    else:
        hint = f"install them with: {package}"
    places = ", ".join(map(str, looked))
    raise UsageError(f"no headers for kernel {release}: looked in {places}", hint=hint)


def _by_kdir(folder: Path) -> KernelTarget:
    if not folder.is_dir():
        raise UsageError(
            f"{folder}: no such kernel header folder",
            hint="a KDIR is the folder for make -C, e.g. /lib/modules/RELEASE/build",
        )
    if not _is_kdir(folder):
        raise UsageError(
            f"{folder}: not a prepared kernel header folder "
            "(no Makefile and include/generated in it)",
            hint="in a source tree run: make modules_prepare",
        )
    return KernelTarget(release_of(folder), folder.absolute())


def _of_running() -> KernelTarget | None:
    release = platform.release()
    for root in HEADER_ROOTS:
        folder = Path(root.format(release=release))
        if _is_kdir(folder):
            return KernelTarget(release, folder)
    return None


def find(kernel: str | None = None, kdir: str | Path | None = None) -> KernelTarget:
    """The kernel to build for.

    `kdir` (or the environment's KDIR), else `kernel`, else the running kernel if its headers
    are installed and this is no container, else the newest kernel whose headers are.  Raises
    KbridgeError that says where it looked and which package is missing.
    """
    if kdir:
        target = _by_kdir(Path(kdir))
        if kernel and kernel != target.release:
            raise UsageError(
                f"{kdir} is for kernel {target.release}, not {kernel}",
                hint="give one of --kernel and --kdir",
            )
        return target
    if kernel:
        return _by_release(kernel)
    if os.environ.get("KDIR"):
        return _by_kdir(Path(os.environ["KDIR"]))
    inside = container.mark()
    running = _of_running()
    if running and not inside:
        return running
    found = installed()
    if not found:
        raise KbridgeError(
            "no kernel headers: looked in /lib/modules/*/build and /usr/src/linux-headers-*",
            hint="in a container, install those of the kernel to build for: apt-get install "
            "linux-headers-RELEASE"
            if inside
            else "install them with: apt-get install linux-headers-cloud-amd64",
        )
    if running and running != found[-1]:  # it would be taken anywhere else
        _say_choice(inside, found[-1].release)
    return found[-1]


@functools.cache  # once is enough
def _say_choice(mark: str, release: str) -> None:
    log.info(
        f"a container ({mark}), so uname -r ({platform.release()}) is not asked: kernel {release}, "
        "the newest with headers here"
    )
