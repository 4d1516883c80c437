# SPDX-License-Identifier: GPL-2.0-only
"""What inspect() finds out, as plain data; docs/inspect.md describes the fields.

The field names are those of `kbridge inspect --json`: scripts read them, so they stay.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from kbridge.stack import Need

FORMAT = 1  # of the JSON object; raised when a field changes its meaning or goes

PRESENT, ABSENT, NOT_APPLICABLE = "present", "absent", "not applicable"


@dataclass(frozen=True)
class Site:
    """A place in the code: function (or section) and bytes from its start."""

    function: str
    offset: int
    line: str = ""  # file.c:12, where the file has DWARF


@dataclass(frozen=True)
class Bound:
    """What the file is bound to; empty or None: the file does not say, or there is none."""

    release: str = ""
    build_id: str = ""
    link: str = ""  # libkernel, script
    vermagic: str = ""  # of a module
    modules: list[str] = field(default_factory=list)
    parameters: list[str] = field(default_factory=list)
    symbols: str = ""  # of a libkernel.so: their source, and the KASLR slide


@dataclass(frozen=True)
class Gate:
    """A function that the app can call; `problem`: why kbridge makes none for it.

    `stack`: what it takes of the kernel stack, None where there is nothing to tell it from.
    """

    name: str
    stack_words: int
    problem: str = ""
    stack: Need | None = None


@dataclass(frozen=True)
class Image:
    """Sizes in bytes; `name` is what the kernel log calls the image ('' but for programs)."""

    name: str
    text: int
    rodata: int
    data: int
    percpu: int
    code: int
    functions: int
    records: int
    module_init: bool
    module_exit: bool
    gates: list[Gate] = field(default_factory=list)


@dataclass(frozen=True)
class KernelSymbol:
    """A kernel symbol that the file needs.

    `type`: function, data, per-CPU, unknown.  `provider`: vmlinux, a module, '' (unknown).
    `status`: found, ambiguous, missing, absent (weak, so it reads as 0), unknown (nothing to look
    it up in).  `exported`: None where nobody knows.
    """

    name: str
    type: str
    status: str
    provider: str = ""
    exported: bool | None = None
    gpl_only: bool = False
    namespace: str = ""
    weak: bool = False
    candidates: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class PerCpu:
    """A per-CPU variable and the functions that use it; `own`: not the kernel's but the file's."""

    name: str
    own: bool
    functions: list[str]


@dataclass(frozen=True)
class Instruction:
    """A privileged instruction; `alternative`: only in a replacement that the CPU decides on."""

    site: Site
    text: str
    mnemonic: str
    why: str
    alternative: bool = False


@dataclass(frozen=True)
class Residue:
    """A special section.  `entries` None: of no known size.

    `fate`: finished, placed, inert, left out, refused, module loader, kernel.
    """

    section: str
    what: str
    bytes: int
    entries: int | None
    fate: str
    why: str


@dataclass(frozen=True)
class Mitigation:
    """`sites` that have it, of `total` that need it; `kernel`: whether that kernel is built so.

    `naked`: places that lack it.
    """

    name: str
    state: str
    sites: int
    total: int
    kernel: bool | None
    detail: str = ""
    naked: list[Site] = field(default_factory=list)


@dataclass(frozen=True)
class Interface:
    """What of the kernel's interface a program recorded when it was built.

    `crcs`: as Module.symvers has them.  `without_crc`: symbols that have none.  `types`: names of
    each kind.  `configuration`: a digest, '' where the headers did not tell.  `features`: of how
    many processor features the numbers are recorded; None where the code asks for none.
    """

    crcs: dict[str, str]
    without_crc: list[str]
    types: dict[str, list[str]]
    configuration: str
    features: int | None


@dataclass(frozen=True)
class Report:
    """All about one file.

    `kind`: program, library (linked by kbridge), object (a kmod's .o), module (.ko), kernel
    (vmlinux), other (no kernel code).  `kernel`: the release that names were looked up in, '' if
    none; `notes`: what could not be found out, and what to do about it.
    """

    file: str
    kind: str
    kernel: str
    bound: Bound
    image: Image | None
    symbols: list[KernelSymbol] = field(default_factory=list)
    percpu: list[PerCpu] = field(default_factory=list)
    privileged: list[Instruction] = field(default_factory=list)
    residue: list[Residue] = field(default_factory=list)
    mitigations: list[Mitigation] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    interface: Interface | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON: stable keys, plain values."""
        return {"format": FORMAT, **asdict(self)}
