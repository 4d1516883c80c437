# SPDX-License-Identifier: GPL-2.0-only
"""The parts of bench/libkernel.py: what is measured, each kind in a file, and the report."""
