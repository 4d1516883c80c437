# SPDX-License-Identifier: GPL-2.0-only
"""scripts/constraints.txt: what it pins can be installed where kbridge can."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
DEBIAN_12 = "3.11.2"  # the oldest Python with which it is set up


def test_pins_are_for_the_python_of_debian() -> None:
    """A package that asks for a newer one is not found there, and nothing is installed."""
    text = (ROOT / "scripts/constraints.txt").read_text()
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", text, re.MULTILINE))
    assert pins
    installed = {canonicalize_name(one.name): one for one in metadata.distributions()}
    bad = []
    for name, version in pins.items():
        package = installed.get(canonicalize_name(name))
        if package and package.version == version:
            wanted = package.metadata.get("Requires-Python") or ""
            if not SpecifierSet(wanted).contains(DEBIAN_12):
                bad.append(f"{name}=={version}: Python {wanted}")
    assert not bad, "\n".join(bad)
