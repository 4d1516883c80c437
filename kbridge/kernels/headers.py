# SPDX-License-Identifier: GPL-2.0-only
"""What a kernel's header folder says of it: exported symbols and configuration.

Only reads the files; what they mean for a build is kbuild.py's and compiler.py's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_SETTING = re.compile(r"^(CONFIG_\w+)=(.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Export:
    """One line of Module.symvers; `module` as /sys/module has it, or vmlinux.

    `crc`: 0 where the kernel has none (without CONFIG_MODVERSIONS).
    """

    module: str
    gpl_only: bool
    namespace: str
    crc: int = 0


def _crc(text: str) -> int:
    try:
        return int(text, 16)
    except ValueError:
        return 0


def exports(kdir: Path) -> dict[str, Export] | None:
    """Module.symvers: CRC, symbol, module, export type and (since v5.4) name space, by tabs.

    Modules by the name that /sys/module has: no folder, '_' for '-'.  None without the file.
    """
    try:
        text = (kdir / "Module.symvers").read_text(errors="replace")
    except OSError:
        return None
    found = {}
    for line in text.splitlines():
        fields = line.split("\t")
        if len(fields) > 3:
            module = fields[2].rpartition("/")[2].replace("-", "_")
            namespace = fields[4].strip() if len(fields) > 4 else ""
            found[fields[1]] = Export(module, "GPL" in fields[3], namespace, _crc(fields[0]))
    return found


def configuration(kdir: Path) -> dict[str, str] | None:
    """CONFIG_NAME to its value as the file has it, quotes and all; None without a file."""
    for name in ("include/config/auto.conf", ".config"):
        try:
            return dict(_SETTING.findall((kdir / name).read_text(errors="replace")))
        except OSError:
            continue
    return None
