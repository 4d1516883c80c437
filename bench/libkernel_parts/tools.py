# SPDX-License-Identifier: GPL-2.0-only
"""The benchmark's own Python packages, in a virtual environment in the cache, and the machine.

Packages that only the benchmark uses are no dependencies of kbridge.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import time
from pathlib import Path

from kbridge import paths, proc

OTHER = "vmlinux-to-elf"
PACKAGES = (f"{OTHER}==1.4.0", "matplotlib==3.11.2")

_FIRST_NUMBER = re.compile(r"\d+(?:\.\d+)+")


def environment() -> Path:
    """The folder of the programs of PACKAGES, installed once."""
    key = paths.fingerprint([], *PACKAGES, sys.version, sys.base_prefix)
    folder = paths.cache("bench") / key
    whole = folder / "complete"
    if not whole.exists():
        shutil.rmtree(folder, ignore_errors=True)
        proc.run([sys.executable, "-m", "venv", folder])
        pip = [folder / "bin/python", "-m", "pip", "--disable-pip-version-check", "-q"]
        proc.run([*pip, "install", *PACKAGES], what=f"installing {', '.join(PACKAGES)}")
        whole.touch()
    return folder / "bin"


def _version(*command: str) -> str:
    first = proc.run([*command, "--version"]).stdout.splitlines()[0]
    found = _FIRST_NUMBER.findall(first)
    return found[-1] if found else first


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor() or "unknown"


def machine() -> dict[str, str]:
    """What the times were measured on, and with."""
    from kbridge import __version__

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    load = ", ".join(f"{one:.2f}" for one in os.getloadavg())
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "processor": f"{_processor()}, {len(os.sched_getaffinity(0))} cores",
        "memory": f"{memory} MiB",
        "its kernel": platform.release(),
        "load before (1, 5, 15 minutes)": load,
        "kbridge": f"{__version__}, Python {platform.python_version()}",
        "GNU as, ld": f"{_version('as')}, {_version('ld')}",
        "gcc, libc": f"{_version('gcc')}, {' '.join(platform.libc_ver())}",
        "other packages": ", ".join(PACKAGES).replace("==", " "),
    }
