# SPDX-License-Identifier: GPL-2.0-only
"""kbridge links ordinary programs against the Linux kernel."""

__version__ = "0.1.0"
