# SPDX-License-Identifier: GPL-2.0-only
"""Kernels as things to build for and to boot: headers, Kbuild flags, images."""
