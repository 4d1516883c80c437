# SPDX-License-Identifier: GPL-2.0-only
"""A bracket, and kernel functions by name: what the package itself brings, without a kmod."""

import ctypes
import os
import sys

import kbridge

banner = kbridge.kernel.symbol("linux_banner")
with kbridge.elevated():
    text = ctypes.string_at(banner.address).decode()  # kernel memory: in ring 3 this faults
print(f"linux_banner at {banner.address:#x}: {text.partition(' (')[0]}", flush=True)

ksys_write = kbridge.kernel.symbol("ksys_write")
line = b"written by ksys_write()\n"
written = ksys_write(sys.stdout.fileno(), line, len(line))
sys.exit(not (written == len(line) and text.startswith(f"Linux version {os.uname().release} ")))
