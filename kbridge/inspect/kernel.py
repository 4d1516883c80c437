# SPDX-License-Identifier: GPL-2.0-only
"""What is known here of the kernel that a file is for: its symbols, exports and configuration.

Whatever is missing on this machine is said in `notes`, and the rest goes on without it.  Nothing
is fetched.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from kbridge import log
from kbridge.errors import KbridgeError
from kbridge.kernels import headers
from kbridge.kernels import image as kernel_image
from kbridge.kernels import target as targets
from kbridge.kernels.headers import Export
from kbridge.symbols import image as symbol_image
from kbridge.symbols.table import Symbol, SymbolTable


@dataclass
class Kernel:
    """`exports`, `settings` and `table` are None where they are not to be had."""

    release: str = ""
    exports: dict[str, Export] | None = None
    settings: dict[str, str] | None = None
    table: SymbolTable | None = None
    notes: list[str] = field(default_factory=list)

    def is_set(self, *names: str) -> bool | None:
        """Whether the kernel has the setting, whatever it is called there."""
        if self.settings is None:
            return None
        return any(self.settings.get(name) == "y" for name in names)

    def is_percpu(self, symbol: Symbol) -> bool:
        """Whether a symbol of the kernel image is a per-CPU variable.

        They lie between two symbols of the linker script, at 0 or (since Linux commit
        9d7de2aa8b41 ("x86/percpu/64: Use relative percpu offsets", v6.15)) anywhere.
        """
        if self.table is None:
            return False
        try:
            start, end = (
                self.table.resolve(name).address for name in ("__per_cpu_start", "__per_cpu_end")
            )
        except KbridgeError:
            return symbol.type == "A"
        return start <= symbol.address < end


def _target(kernel: str | None, kdir: str | None, bound: str) -> targets.KernelTarget | None:
    """What was asked for has to be there; what the file names, or the default, may be missing."""
    if kernel or kdir:
        return targets.find(kernel, kdir)
    try:
        return targets.find(bound or None)
    except KbridgeError as problem:
        log.detail(problem.message)
        return None


def _read_headers(found: Kernel, kdir: Path) -> None:
    found.exports, found.settings = headers.exports(kdir), headers.configuration(kdir)
    if found.exports is None:
        found.notes.append(f"{kdir}: no Module.symvers, so what is exported is unknown")
    if found.settings is None:
        found.notes.append(f"{kdir}: no configuration, so how the kernel is built is unknown")


def facts(kernel: str | None, kdir: str | None, release: str, build_id: str) -> Kernel:
    """The kernel asked for, else the one that the file is bound to, else the default one.

    `release` and `build_id`: what the file is bound to, '' if it does not say.
    """
    target = _target(kernel, kdir, release)
    found = Kernel(target.release if target else release)
    if target:
        _read_headers(found, target.kdir)
    else:
        package = f"apt-get install linux-headers-{release or 'RELEASE'}"
        found.notes.append(
            f"no headers of kernel {release or '(any)'} here, so what it exports is unknown: "
            + package
        )
    if release and found.release != release:
        found.notes.append(f"built for kernel {release}, looked up in {found.release}")
    if not found.release:
        return found
    try:
        found.table = symbol_image.cached(kernel_image.find(found.release, download=False).vmlinuz)
    except KbridgeError as problem:
        found.notes.append(
            f"no symbols of kernel {found.release} here: {problem.message.partition(':')[0]} "
            "(kbridge run and gen-libkernel fetch it)"
        )
        return found
    same = not build_id or found.release != release or found.table.build_id == build_id
    if not same:
        found.notes.append(
            f"built for build ID {build_id}, and the image of kernel {release} here has "
            f"{found.table.build_id}: build it again"
        )
    return found
