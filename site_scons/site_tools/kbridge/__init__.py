# SPDX-License-Identifier: GPL-2.0-only
"""The SCons tool by its name, for SConstructs of this checkout; it lives in the package."""

from kbridge.scons_tool import exists, generate

__all__ = ["exists", "generate"]
