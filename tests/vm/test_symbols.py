# SPDX-License-Identifier: GPL-2.0-only
"""kbridge symbols, with the booted kernel itself as the oracle."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from conftest import Kbridge

from kbridge.kernels import image as images
from kbridge.kernels import target

if TYPE_CHECKING:
    from vm.conftest import Guest

KERNELS = [kernel.release for kernel in target.installed()] or ["none installed"]
# of the same sources, with another configuration and packing: fetched, never installed
GENERIC = [name.replace("-cloud-", "-") for name in KERNELS if "-cloud-" in name]


@pytest.mark.parametrize("release", [*KERNELS, *GENERIC])
def test_all_symbols_are_those_of_the_booted_kernel(
    quiet_guest: Guest, kbridge: Kbridge, release: str
) -> None:
    images.find(release)
    how = ("--kernel", release, "--cpus", "1", "--append", "nokaslr")
    booted = quiet_guest(*how, "/bin/busybox", "cat", "/proc/kallsyms", text=False)
    assert booted.returncode == 0, booted.stderr
    # lines of modules, and of what the kernel makes as it runs, end with [name]
    own = [line for line in booted.stdout.splitlines(keepends=True) if b"\t[" not in line]
    assert len(own) > 80_000
    words = ("symbols", "--kernel", release, "--all", "--format", "kallsyms")
    listed = kbridge(*words, text=False)
    assert (listed.returncode, listed.stderr) == (0, b"")
    assert listed.stdout.splitlines(keepends=True) == own
