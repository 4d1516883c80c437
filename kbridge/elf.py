# SPDX-License-Identifier: GPL-2.0-only
"""The little that kbridge adds to pyelftools: sections by name, of whatever kind they are."""

from __future__ import annotations

from typing import Any

from elftools.elf.elffile import ELFFile


def section(elf: ELFFile, name: str) -> Any:
    """The section of that name, None if there is none.

    pyelftools knows at run time only which kind of section a name stands for.
    """
    return elf.get_section_by_name(name)
