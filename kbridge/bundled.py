# SPDX-License-Identifier: GPL-2.0-only
"""The Python packages that a package of a distribution brings along for kbridge alone.

Distributions have some of what kbridge depends on too old, or not at all.  Their package has it in
a folder of its own, and data/bundled is a link to that.  To import this module is to have Python
look there first: the commands do so before they import anything else.  Programs that
`import kbridge` for the binding keep the packages that they have.  A wheel and a checkout have no
such folder.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

_LINK = Path(__file__).resolve().parent / "data" / "bundled"


class _Finder:
    """Looks in that folder.  Not by sys.path: SCons puts that back when it has read a SConstruct,
    and what the stages import they import later.
    """

    folder = str(_LINK.resolve())

    @classmethod
    def find_spec(
        cls, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        found = PathFinder.find_spec(name, [cls.folder], target) if path is None else None
        return found if found and found.loader else None  # any folder is a namespace without one


if _LINK.is_dir():
    sys.meta_path.insert(0, _Finder)


def program(name: str) -> Path | None:
    """A program that came along, or None."""
    found = _LINK / "bin" / name
    return found if found.is_file() else None
