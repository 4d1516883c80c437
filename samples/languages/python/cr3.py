# SPDX-License-Identifier: GPL-2.0-only
"""samples/cr3 in Python: prints CR3, and the privilege level on both sides."""

import ctypes
import sys

import kbridge

kmod = ctypes.CDLL("libcr3.so")
kmod.cr3.restype = ctypes.c_ulong

app = 0 if kbridge.is_elevated() else 3
value = kmod.cr3()
print(f"privilege level: app {app}, kmod {kmod.privilege_level()}")
print(f"CR3 = {value:#x}")
sys.exit(not (app == 3 and kmod.privilege_level() == 0 and value))
