# SPDX-License-Identifier: GPL-2.0-only
"""What other build tools need to link against libkbridge.so and the kernel: libkbridge.pc,
libkernel.pc, and what they name.

Not for building the libraries (runtime.py, libkernel.py).
"""

from __future__ import annotations

import re
from pathlib import Path

import jinja2

from kbridge import __version__, libkernel, makefile, paths, runtime
from kbridge.errors import KbridgeError
from kbridge.kernels import headers
from kbridge.kernels import image as images
from kbridge.kernels.target import KernelTarget


def _filled(name: str, **values: str) -> str:
    text = paths.source("templates", name).read_text()
    template = jinja2.Template(text, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    return str(template.render(values))


def libkernel_pc(release: str, run_folder: str = "") -> str:
    """libkernel.pc of a folder with a link stub; programs look for the run-time file in
    `run_folder`, if there is one."""
    version = re.match(r"[0-9.]+[0-9]", release)
    return _filled(
        "libkernel.pc.j2",
        release=release or "of unknown release",
        version=version[0] if version else "0",
        run_folder=run_folder,
    )


def _keep(path: Path, content: bytes) -> None:
    if not path.is_file() or path.read_bytes() != content:
        paths.make_parent(path)
        paths.write_atomically(path, content)


def _check(folder: Path) -> None:
    if ":" in str(folder):
        raise KbridgeError(
            f"{folder}: pkg-config cannot find a folder with a colon in its path",
            hint="set KBRIDGE_CACHE to a folder without one",
        )


def folder() -> Path:
    """A folder for PKG_CONFIG_PATH: libkbridge.pc, the library, its header in include/, and the
    rules for Makefiles.

    ld looks for what a library needs, and libraries that kbridge built need a libkernel.so: there
    is one in needed/, which nothing loads.
    """
    library = runtime.library()
    rules = makefile.text(makefile.own_command())
    # a folder for each kbridge: the rules name the command, which may be removed
    made = library.parent / makefile.key(rules)
    _check(made)
    _keep(made / "include/kbridge.h", paths.source("runtime", "kbridge.h").read_bytes())
    stub = made / "needed" / libkernel.SONAME
    if not stub.is_file():
        paths.make_parent(stub)
        # ld reads no library that defines nothing
        libkernel.write_stub({"_text": True}, stub, release="", build_id="")
    _keep(made / library.name, library.read_bytes())
    _keep(made / makefile.NAME, rules.encode())
    pc = _filled("libkbridge.pc.j2", version=__version__, run_folder=runtime.RUN_FOLDER)
    _keep(made / "libkbridge.pc", pc.encode())
    return made


def libkernel_folder(target: KernelTarget) -> Path:
    """A folder for PKG_CONFIG_PATH with libkernel.pc, and the link stub of all symbols of that
    kernel and its modules."""
    exports = headers.exports(target.kdir) or {}
    symbols = images.symbols(target.release)
    stub = libkernel.cached_stub(symbols, headers.of_modules(exports))
    made = stub.parent / "link"
    _check(made)
    made.mkdir(exist_ok=True)
    paths.replace_link(made / "libkernel-stub.so", Path("..") / stub.name)
    _keep(made / "libkernel.pc", libkernel_pc(target.release, runtime.RUN_FOLDER).encode())
    return made
