# SPDX-License-Identifier: GPL-2.0-only
"""Faults in kmod code, tried one by one: the test's and docs/faults.md's."""
