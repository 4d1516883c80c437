# SPDX-License-Identifier: GPL-2.0-only
"""What is here of each kernel (headers, image, compiler, symbols), and what is missing.

Nothing is fetched and nothing is made.  Not for choosing the kernel to build for (target.py).
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kbridge import log, paths, proc
from kbridge.errors import KbridgeError
from kbridge.kernels import compiler as compilers
from kbridge.kernels import container
from kbridge.kernels import image as images
from kbridge.kernels import target as targets
from kbridge.kernels.compiler import Compiler
from kbridge.kernels.target import KernelTarget
from kbridge.symbols import image as symbol_image

BOOT = Path("/boot")
MODULES = Path("/lib/modules")


@dataclass(frozen=True)
class Found:
    """What is here of one kernel.

    `image_place`: boot, modules or cache; '' without an image.  `compiler`: the one that built
    the kernel, None where nothing tells.  `default`: why it is the one that is built for unless
    another is asked for: running, newest or KDIR; '' for all others.
    """

    release: str
    headers: Path | None = None
    image: Path | None = None
    image_place: str = ""
    compiler: Compiler | None = None
    compiler_installed: bool | None = None
    symbols_cached: bool = False
    default: str = ""
    running: bool = False

    @property
    def linkable(self) -> bool:
        """Whether a program can be linked against it; an image is fetched when it is needed."""
        return self.headers is not None and self.compiler_installed is not False

    @property
    def headers_package(self) -> str:
        return f"linux-headers-{self.release}"

    @property
    def image_package(self) -> str:
        return f"linux-image-{self.release}"

    @property
    def compiler_package(self) -> str:
        return f"{self.compiler.family}-{self.compiler.major}" if self.compiler else ""


@dataclass(frozen=True)
class Survey:
    """`kernels`: oldest first.  `running`: the release that runs now, be it among them or not.
    `problem`: why there is no default kernel; '' where there is one."""

    kernels: list[Found]
    running: str
    problem: str = ""


def _is_installed(compiler: Compiler) -> bool:
    """Whether a compiler of that family and major version is there, under its usual names."""
    if shutil.which(f"{compiler.family}-{compiler.major}"):
        return True
    plain = shutil.which(compiler.family)
    if plain is None:
        return False
    shown = proc.run([plain, "--version"], check=False).stdout
    found = compilers.parse(shown.partition("\n")[0])
    return found is not None and (found.family, found.major) == (compiler.family, compiler.major)


def _releases() -> Iterator[str]:
    """Kernels that have an image or modules in the system's folders."""
    for image in BOOT.glob("vmlinuz-*"):
        yield image.name.removeprefix("vmlinuz-")
    for folder in MODULES.glob("*"):
        # header packages make a folder with nothing but links in it
        if (folder / "kernel").is_dir() or (folder / "vmlinuz").is_file():
            yield folder.name


def _image(release: str) -> tuple[Path | None, str]:
    try:
        found = images.find(release, download=False).vmlinuz
    except KbridgeError as problem:
        log.detail(problem.message)
        return None, ""
    places = {BOOT: "boot", MODULES: "modules", paths.cache_place("images"): "cache"}
    return found, next((name for root, name in places.items() if root in found.parents), "")


def _default(running: str) -> tuple[KernelTarget | None, str, str]:
    """The kernel that is built for, why it is that one, and why there is none."""
    try:
        target = targets.find()
    except KbridgeError as problem:
        return None, "", problem.message
    if os.environ.get("KDIR"):
        return target, "KDIR", ""
    chosen = target.release == running and not container.mark()
    return target, "running" if chosen else "newest", ""


def _found(release: str, target: KernelTarget | None, why: str, running: str) -> Found:
    image, place = _image(release)
    compiler = compilers.of_kernel(target) if target else None
    return Found(
        release=release,
        headers=target.kdir if target else None,
        image=image,
        image_place=place,
        compiler=compiler,
        compiler_installed=_is_installed(compiler) if compiler else None,
        symbols_cached=image is not None and symbol_image.is_cached(image),
        default=why,
        running=release == running,
    )


def survey() -> Survey:
    """Every kernel that has headers, an image in /boot, or modules."""
    running = platform.release()
    default, why, problem = _default(running)
    with_headers = {target.release: target for target in targets.installed()}
    if default:
        with_headers[default.release] = default
    releases = {one for one in _releases() if images.is_release(one)} | set(with_headers)
    kernels = []
    for release in sorted(releases, key=targets.release_key):
        chosen = default is not None and release == default.release
        target = with_headers.get(release)
        kernels.append(_found(release, target, why if chosen else "", running))
    return Survey(kernels, running, problem)
