# SPDX-License-Identifier: GPL-2.0-only
"""Steps of debian/rules that are more than a line: of the wheels, what goes into the package.

    bundle.py wheel BUILD          a wheel of kbridge, in the folder BUILD
    bundle.py install BUILD OWN    that wheel, and all that it depends on, into the folder OWN
    bundle.py copyright OWN        what debian/copyright says of each, from the packages' own words
    bundle.py python               the dependency on the Python that has the wheels' version
    bundle.py pc FROM TO LIB       libkbridge.pc for files that are in /usr, libraries in /usr/LIB
    bundle.py mk FROM TO           the rules for Makefiles, which call the installed kbridge

Not for building packages by hand: scripts/deb does that.
"""

from __future__ import annotations

import email
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# what only those need who compile against a package, test it, check types, or type its commands
NOT_PACKED = ("numpy/**/tests", "numpy/_core/include", "numpy/**/*.a", "**/*.pyi", "bin", "usr")
# Debian's own loads kbridge's tool
SCONS = ("SCons", "scons-*.dist-info")


def wheelhouse() -> Path:
    """The folder of pinned wheels, filled where it is not."""
    given = os.environ.get("KBRIDGE_WHEELS")
    if given:
        return Path(given)
    script = ROOT / "scripts/wheelhouse"
    done = subprocess.run([sys.executable, script], stdout=subprocess.PIPE, text=True, check=True)
    return Path(done.stdout.strip())


def pip(*words: str | Path) -> None:
    """Without the network, and without what a person has configured."""
    how = ("--isolated", "--no-input", "--disable-pip-version-check", "--quiet")
    local = ("--no-index", "--find-links", wheelhouse())
    command = [sys.executable, "-m", "pip", *how, words[0], *local, *words[1:]]
    subprocess.run(command, check=True)


def wheel(build: Path) -> None:
    pip("wheel", "--no-deps", "--wheel-dir", build, ROOT)


def install(build: Path, own: Path) -> None:
    (made,) = build.glob("kbridge-*.whl")
    into = ("--target", own, "--no-compile", "--root-user-action", "ignore")
    pip("install", *into, made)
    shutil.rmtree(own / "bin", ignore_errors=True)
    pip("install", *into, "--no-deps", "virtme-ng")
    for pattern in (*NOT_PACKED, *SCONS):
        for path in sorted(own.glob(pattern)):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    (told,) = own.glob("kbridge-*.dist-info")
    for name in ("direct_url.json", "RECORD", "REQUESTED"):  # of pip, which does not manage it
        (told / name).unlink(missing_ok=True)
    (told / "INSTALLER").write_text("debian\n")
    # true of the package: nothing more needs to be installed
    words = (told / "METADATA").read_text()
    words = re.sub(r"^(Requires-Dist|Provides-Extra): .*\n", "", words, flags=re.M)
    (told / "METADATA").write_text(words)


def _stanza(folder: Path) -> str:
    told = email.message_from_string((folder / "METADATA").read_text())
    classifiers = [
        text.rpartition(" :: ")[2]
        for text in told.get_all("Classifier", [])
        if text.startswith("License :: ")
    ]
    fields = (told["License-Expression"], (told["License"] or "").partition("\n")[0], *classifiers)
    licence = next((field for field in fields if field), "not named")
    people = told["Author"] or told["Author-Email"] or told["Maintainer-Email"] or "its authors"
    name = folder.name.partition("-")[0]
    return (
        f"\nFiles: usr/lib/kbridge/{name}*\n"
        f"Copyright: {' '.join(people.split())}\n"
        f"License: {name}\n"
        f" {told['Name']} {told['Version']}, as it was published: {licence}.\n"
        f" What its authors say of copyright and licence is in\n"
        f" /usr/lib/kbridge/{folder.name}.\n"
    )


def licences(own: Path) -> None:
    for folder in sorted(own.glob("*.dist-info")):
        print(_stanza(folder), end="")


def python() -> None:
    major, minor = sys.version_info[:2]
    print(f"python3 (>= {major}.{minor}), python3 (<< {major}.{minor + 1})")


def pc(source: Path, target: Path, lib: str) -> None:
    text = source.read_text()
    for before, after in (
        ("prefix=${pcfiledir}\n", "prefix=/usr\n"),
        ("libdir=${prefix}\n", f"libdir=/{lib}\n"),
        ("${libdir}/needed", "${libdir}/kbridge/needed"),
        ("${pcfiledir}/kbridge.mk", "${prefix}/share/kbridge/kbridge.mk"),
    ):
        if text.count(before) != 1:
            sys.exit(f"{source}: not once {before!r}; see templates/libkbridge.pc.j2")
        text = text.replace(before, after)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)


def mk(source: Path, target: Path) -> None:
    text, count = re.subn(
        r"^KBRIDGE \?= .*$", "KBRIDGE ?= kbridge", source.read_text(), flags=re.MULTILINE
    )
    if count != 1:
        sys.exit(f"{source}: not once 'KBRIDGE ?= '; see templates/kbridge.mk.j2")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)


def main(step: str, *words: str) -> None:
    folders = [Path(word) for word in words]
    if step == "pc":
        pc(folders[0], folders[1], words[2])
    else:
        steps = {"wheel": wheel, "install": install, "copyright": licences}
        {**steps, "python": python, "mk": mk}[step](*folders)


if __name__ == "__main__":
    main(*sys.argv[1:])
