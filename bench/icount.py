# SPDX-License-Identifier: GPL-2.0-only
"""Virtual machines whose clock counts instructions.

Emulated, a clock says nothing.  But QEMU's -icount makes the guest's clock and time-stamp counter
count instructions, one for each nanosecond, those of the guest's kernel included, and that is the
same every time.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from kbridge.vm import qemu

# Without these, QEMU counts an instruction for every byte that the kernel copies or clears.
_CPU = "max,-cx16,-erms,-fsrm"


def possible() -> bool:
    """-icount is QEMU's own emulation's: with KVM there is none."""
    return not qemu.kvm_works()


def environment(folder: Path) -> dict[str, str]:
    """In which kbridge run counts: `folder` is made, with a qemu that comes first in PATH."""
    folder.mkdir()
    script = folder / qemu.PROGRAM
    real = shlex.quote(qemu.program())
    script.write_text(f'#!/bin/sh\nexec {real} "$@" -icount shift=0,sleep=off\n')
    script.chmod(0o755)
    return {"PATH": f"{folder}:{os.environ.get('PATH', '')}", "KBRIDGE_QEMU_CPU": _CPU}
