# SPDX-License-Identifier: GPL-2.0-only
"""The verbs of the command line, as functions that take a request."""
