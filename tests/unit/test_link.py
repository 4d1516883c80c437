# SPDX-License-Identifier: GPL-2.0-only
"""What the linked file must not be; how names are bound is in test_libkernel_link.py."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from kbridge import link
from kbridge.errors import KbridgeError

LOADER = "/lib/ld-musl-x86_64.so.1"


def linked(folder: Path, *flags: str, needs: str = "libother.so") -> Path:
    """Linked with a library of that soname."""
    (folder / "it.c").write_text("int it(void) { return 0; }\n")
    gcc = ["gcc", "-fPIC", "-nostdlib", "-Wl,--no-as-needed", "it.c", "-o"]
    other = [*gcc, "other.so", "-shared", f"-Wl,-soname,{needs}"]
    subprocess.run(other, cwd=folder, check=True)
    subprocess.run([*gcc, "it", "other.so", *flags], cwd=folder, check=True)
    return folder / "it"


def said(path: Path) -> str:
    with pytest.raises(KbridgeError) as raised:
        link.verify(path, [], b"", [])
    return raised.value.message


@pytest.mark.parametrize("kind", ["-pie", "-no-pie"])
def test_a_program_of_musl_is_told_by_its_interpreter(tmp_path: Path, kind: str) -> None:
    path = linked(tmp_path, kind, "-Wl,-e,it", f"-Wl,--dynamic-linker={LOADER}")
    assert said(path).startswith(f"linked with musl ({LOADER}), ")


@pytest.mark.parametrize("name", ["libc.so", "libc.musl-x86_64.so.1", "ld-musl-x86_64.so.1"])
def test_a_library_of_musl_is_told_by_the_libc_that_it_needs(tmp_path: Path, name: str) -> None:
    assert said(linked(tmp_path, "-shared", needs=name)).startswith(f"linked with musl ({name}), ")


@pytest.mark.parametrize("name", ["libc.so.6", "libmusl.so", "mylibc.so"])
def test_other_libraries_are_not_musls(tmp_path: Path, name: str) -> None:
    assert said(linked(tmp_path, "-shared", needs=name)).endswith(
        "reads back wrong: the image is missing"
    )
