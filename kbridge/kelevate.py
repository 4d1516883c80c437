# SPDX-License-Identifier: GPL-2.0-only
"""Builds the kelevate module for a kernel, once, and keeps it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from kbridge import log, paths, progress
from kbridge.kernels import kbuild
from kbridge.kernels.target import KernelTarget


def module(target: KernelTarget) -> Path:
    """kelevate.ko for the kernel, from the cache, else (2 to 4 s) built by its Kbuild."""
    source = paths.source("kernel", "kelevate")
    files = [file for file in source.iterdir() if file.suffix in (".c", ".h", ".S", "")]
    key = paths.fingerprint(files, target.release, kbuild.flags(target).fingerprint)
    output = paths.cache("kelevate", f"{target.release}-{key}") / "kelevate.ko"
    if output.is_file():
        return output
    with (
        progress.doing(f"building the kelevate module for kernel {target.release}"),
        paths.alone(output.parent),
    ):
        if not output.is_file():
            _build(target, files, output)
    return output


def _build(target: KernelTarget, files: Sequence[Path], output: Path) -> None:
    log.info(f"building the kelevate module for kernel {target.release}")
    with paths.scratch("kbridge-kelevate-") as folder:
        for file in files:
            shutil.copy(file, folder)
        kbuild.build_module(target, folder, f"building kelevate for kernel {target.release}")
        paths.write_atomically(output, (folder / "kelevate.ko").read_bytes())
