# SPDX-License-Identifier: GPL-2.0-only
"""What a kernel's header folder says of it: exported symbols and configuration.

Only reads the files; what they mean for a build is kbuild.py's and compiler.py's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

_INCLUDED = re.compile(r"^include (/[^\s\0]+/Makefile)$", re.MULTILINE)
_CRC = re.compile("0x[0-9a-f]{1,8}")
_SETTING = re.compile(r"^(CONFIG_\w+)=(.*)$", re.MULTILINE)


class Export(NamedTuple):
    """One line of Module.symvers; `module` as /sys/module has it, or vmlinux.

    `crc`: 0 where the kernel has none (without CONFIG_MODVERSIONS).
    """

    module: str
    gpl_only: bool
    namespace: str
    crc: int = 0


def _crc(text: str) -> int:
    return int(text, 16) if _CRC.fullmatch(text) else 0


def exports_in(symvers: Path) -> dict[str, Export]:
    """A Module.symvers: CRC, symbol, module, export type and (since v5.4) name space, by tabs.

    Modules by the name that /sys/module has: no folder, '_' for '-'.  Raises OSError.
    """
    text = symvers.read_text(errors="replace")
    found = {}
    for line in text.splitlines():
        fields = line.split("\t")
        if len(fields) > 3:
            module = fields[2].rpartition("/")[2].replace("-", "_")
            namespace = fields[4].strip() if len(fields) > 4 else ""
            found[fields[1]] = Export(module, "GPL" in fields[3], namespace, _crc(fields[0]))
    return found


def exports(kdir: Path) -> dict[str, Export] | None:
    """What the header folder's Module.symvers lists; None without the file."""
    try:
        return exports_in(kdir / "Module.symvers")
    except OSError:
        return None


def of_modules(known: Mapping[str, Export]) -> dict[str, str]:
    """Symbols that modules (not vmlinux) export, and each one's module."""
    return {name: one.module for name, one in known.items() if one.module != "vmlinux"}


def file(kdir: Path, name: str) -> str | None:
    """The text of a header of the kernel, None where it is not found.

    A header folder has what is made for it only; the rest is in the one that its Makefile
    includes (Debian's -common), or that a link `source` leads to (make O=..., modules_install).
    """
    folders = [kdir, kdir / "source"]
    try:
        included = _INCLUDED.findall((kdir / "Makefile").read_text(errors="replace"))
        folders += [Path(one).parent for one in included]
    except OSError:
        pass
    for folder in folders:
        try:
            return (folder / name).read_text(errors="replace")
        except OSError:
            continue
    return None


def configuration(kdir: Path) -> dict[str, str] | None:
    """CONFIG_NAME to its value as the file has it, quotes and all; None without a file."""
    for name in ("include/config/auto.conf", ".config"):
        try:
            return dict(_SETTING.findall((kdir / name).read_text(errors="replace")))
        except OSError:
            continue
    return None
