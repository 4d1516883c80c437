# SPDX-License-Identifier: GPL-2.0-only
"""The throw-away virtual machine in which programs meet a kernel that is not running here."""
