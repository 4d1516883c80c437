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
from pathlib import Path

_LINK = Path(__file__).resolve().parent / "data" / "bundled"

if _LINK.is_dir():
    sys.path.insert(0, str(_LINK.resolve()))


def program(name: str) -> Path | None:
    """A program that came along, or None."""
    found = _LINK / "bin" / name
    return found if found.is_file() else None
