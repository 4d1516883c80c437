# SPDX-License-Identifier: GPL-2.0-only
"""Builds libkbridge.so, the runtime that programs link, once, and keeps it."""

from __future__ import annotations

from pathlib import Path

from kbridge import paths, proc

# where ld.so finds libkernel.so and libkbridge.so of this boot: root's, mode 0700
RUN_FOLDER = "/run/kbridge"

_FLAGS = ["-O2", "-Wall", "-fPIC", "-shared", "-std=gnu11", "-ffile-prefix-map={source}=."]


def include_folders() -> list[Path]:
    """Folders of the public header and of the kernel interface."""
    return [paths.source("runtime"), paths.source("kernel", "kelevate")]


def library() -> Path:
    """libkbridge.so, from the cache, else (0.2 s) compiled from the sources in runtime/."""
    folder = paths.source("runtime")
    interface = paths.source("kernel", "kelevate", "kelevate.h")
    key = paths.fingerprint([*folder.iterdir(), interface], *_FLAGS)
    output = paths.cache("runtime", key) / "libkbridge.so"
    if not output.is_file():
        with paths.scratch() as scratch:
            made = scratch / output.name
            flags = [flag.format(source=folder) for flag in _FLAGS]
            includes = [f"-I{path}" for path in include_folders()]
            script = ["-Xlinker", f"--version-script={folder / 'libkbridge.map'}"]
            link = ["-Wl,-soname,libkbridge.so", f"-Wl,-rpath,{RUN_FOLDER}"]
            link += ["-Wl,--disable-new-dtags,-z,now,-z,defs"]
            sources = sorted(folder.glob("*.c"))
            proc.run(
                ["gcc", *flags, *includes, "-o", made, *sources, *script, *link],
                what="building libkbridge.so",
            )
            paths.write_atomically(output, made.read_bytes(), mode=0o755)
    return output
