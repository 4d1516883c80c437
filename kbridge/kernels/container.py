# SPDX-License-Identifier: GPL-2.0-only
"""Whether this is a container, where `uname -r` tells of the machine around it.

What is built in a container is the same wherever that is done, so the kernel that happens to run
is none to build for by default (target.py).  Not for choosing a kernel.
"""

from __future__ import annotations

import os
from pathlib import Path

# podman and buildah; docker; systemd-nspawn and whoever follows systemd's "Container Interface"
MARKS = ("/run/.containerenv", "/.dockerenv", "/run/systemd/container")
VARIABLE = "container"  # of the same interface; podman sets it, too


def mark() -> str:
    """What says so; '' where nothing does, as in a `docker build` by BuildKit."""
    if os.environ.get(VARIABLE):
        return f"${VARIABLE}"
    return next((name for name in MARKS if Path(name).exists()), "")
