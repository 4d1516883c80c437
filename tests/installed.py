# SPDX-License-Identifier: GPL-2.0-only
"""kbridge as people install it: the wheel in an environment of its own, the Debian packages.

Both are built from the checkout, and from wheels that scripts/wheelhouse fetched before.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SITE = Path("usr/lib/python3/dist-packages")
# pytest's own environment is not that of who installs kbridge
_FOREIGN = ("PYTHON", "VIRTUAL_ENV", "PIP_")


def environment(**more: str) -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN)} | more


def run(*argv: str | Path, **how: Any) -> str:
    """What a command prints that must do well."""
    how = {"env": environment(), "stdin": subprocess.DEVNULL, **how}
    done = subprocess.run(argv, capture_output=True, text=True, check=False, **how)
    assert done.returncode == 0, f"{argv}\n{done.stdout}{done.stderr}"
    return done.stdout


@dataclass(frozen=True)
class Installed:
    """A kbridge that is not the checkout's: the words that start it, and its environment."""

    words: Sequence[str | Path]
    env: dict[str, str] = field(default_factory=environment)

    def __call__(self, *args: str | Path, cwd: Path, **more: str) -> str:
        return run(*self.words, *args, cwd=cwd, env=self.env | more, timeout=600)


def wheelhouse() -> Path:
    script = ROOT / "scripts/wheelhouse"
    return Path(run(sys.executable, script, env=dict(os.environ)).strip())


def wheel(folder: Path, source: Path = ROOT) -> Path:
    """The wheel of the checkout, or of other sources."""
    offline = ("--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", folder)
    run(sys.executable, "-m", "pip", "wheel", "--quiet", *offline, source, cwd=folder)
    (made,) = folder.glob("*.whl")
    return made


def in_an_environment(made: Path, folder: Path) -> Installed:
    """`pip install 'kbridge[host-root]'` into a new environment, from wheels that are here."""
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / "bin/python"
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index")
    run(*pip, "--no-compile", "--find-links", wheelhouse(), f"{made}[host-root]")
    return Installed([folder / "bin/kbridge"])


def debian_packages(folder: Path) -> list[Path]:
    """The .deb files and their .changes, packed in haste."""
    run(
        sys.executable,
        ROOT / "scripts/deb",
        folder,
        env={**os.environ, "DPKG_DEB_COMPRESSOR_TYPE": "gzip", "DPKG_DEB_COMPRESSOR_LEVEL": "1"},
    )
    return sorted(folder.iterdir())


def unpacked(packages: Sequence[Path], folder: Path) -> Path:
    """The files of the packages, where no package manager knows of them."""
    folder.mkdir()
    for package in packages:
        if package.suffix == ".deb":
            run("dpkg-deb", "--extract", package, folder)
    return folder


def of_tree(tree: Path) -> Installed:
    """The kbridge of unpacked packages: /usr/bin/kbridge would look in /usr/lib."""
    python = Path("/usr/bin/python3")
    env = environment(PYTHONPATH=str(tree / SITE), PYTHONDONTWRITEBYTECODE="1")
    return Installed([python, "-s", "-P", "-m", "kbridge"], env)


def multiarch() -> str:
    return str(sysconfig.get_config_var("MULTIARCH"))
