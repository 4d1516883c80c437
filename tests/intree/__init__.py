# SPDX-License-Identifier: GPL-2.0-only
"""In-tree modules of the kernel, unchanged, as kmods: what bench/corpus.py and its test share."""
