# SPDX-License-Identifier: GPL-2.0-only
"""Kernel symbols and the places they can be read from."""
