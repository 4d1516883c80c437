# SPDX-License-Identifier: GPL-2.0-only
"""What other build tools need to link against libkbridge.so: libkbridge.pc, and what it names.

Not for building the library (runtime.py), nor for libkernel.pc (verbs/gen_libkernel.py).
"""

from __future__ import annotations

from pathlib import Path

import jinja2

from kbridge import __version__, libkernel, makefile, paths, runtime
from kbridge.errors import KbridgeError


def _pc() -> str:
    text = paths.source("templates", "libkbridge.pc.j2").read_text()
    template = jinja2.Template(text, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    return str(template.render(version=__version__, run_folder=runtime.RUN_FOLDER))


def _keep(path: Path, content: bytes) -> None:
    if not path.is_file() or path.read_bytes() != content:
        paths.make_parent(path)
        paths.write_atomically(path, content)


def folder() -> Path:
    """A folder for PKG_CONFIG_PATH: libkbridge.pc, the library, its header in include/, and the
    rules for Makefiles.

    ld looks for what a library needs, and libraries that kbridge built need a libkernel.so: there
    is one in needed/, which nothing loads.
    """
    made = runtime.library().parent
    if ":" in str(made):
        raise KbridgeError(
            f"{made}: pkg-config cannot find a folder with a colon in its path",
            hint="set KBRIDGE_CACHE to a folder without one",
        )
    _keep(made / "include/kbridge.h", paths.source("runtime", "kbridge.h").read_bytes())
    stub = made / "needed" / libkernel.SONAME
    if not stub.is_file():
        paths.make_parent(stub)
        # ld reads no library that defines nothing
        libkernel.write_stub({"_text": True}, stub, release="", build_id="")
    _keep(made / makefile.NAME, makefile.text(makefile.own_command()).encode())
    _keep(made / "libkbridge.pc", _pc().encode())
    return made
