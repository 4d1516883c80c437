# SPDX-License-Identifier: GPL-2.0-only
"""What kbridge finds out about PROG, with programs that gcc makes on the spot."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from kbridge.errors import KbridgeError
from kbridge.vm import program

MAIN = "int main(void) { return 0; }\n"
NOTE = """
__asm__(".pushsection .note.kbridge,\\"a\\",@note; .balign 4; .long 8, 2f - 1f, 1;"
	".asciz \\"kbridge\\"; 1: .asciz \\"6.1.0-test\\"; .asciz \\"c0ffee\\"; 2: .balign 4;"
	".popsection");
"""


def build(folder: Path, name: str, text: str, *flags: str | Path) -> Path:
    source = folder / f"{name}.c"
    source.write_text(text)
    subprocess.run(["gcc", source, "-o", folder / name, *flags], check=True)
    return folder / name


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("program")


@pytest.mark.parametrize("kind", ["-pie", "-no-pie", "-static", "-static-pie"])
def test_every_kind_of_program(folder: Path, kind: str) -> None:
    path = build(folder, f"main{kind}", MAIN, kind)
    found = program.examine(str(path))
    assert (found.path, found.note) == (path, None)
    names = [file.name for file in found.files]
    if "static" in kind:
        assert names == [path.name]
    else:
        assert "libc.so.6" in names
        assert any(name.startswith("ld-linux") for name in names)


def test_symlinks_stay_in_the_path(folder: Path) -> None:
    path = build(folder, "target", MAIN)
    (folder / "link").symlink_to(path)
    assert program.examine(str(folder / "link")).path == folder / "link"


@pytest.mark.parametrize("where", ["program", "library"])
def test_the_kernel_note(folder: Path, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", str(folder))
    in_library, in_program = (NOTE, "") if where == "library" else ("", NOTE)
    flags = ("-shared", "-fPIC", f"-Wl,-soname,lib{where}.so")
    library = build(folder, f"lib{where}.so", f"{in_library}int f(void) {{ return 0; }}\n", *flags)
    text = f"{in_program}int f(void);\nint main(void) {{ return f(); }}\n"
    path = build(folder, f"uses-{where}", text, library)
    found = program.examine(str(path))
    assert library in found.files
    assert found.note == program.KernelNote(
        "6.1.0-test", "c0ffee", library if where == "library" else path
    )


def test_our_own_libraries_are_neither_missing_nor_taken_along(folder: Path) -> None:
    flags = ("-shared", "-fPIC", "-Wl,-soname,libkernel.so")
    library = build(folder, "libkernel.so", "int printk;\n", *flags)
    path = build(
        folder, "elevated", "extern int printk;\nint main(void) { return printk; }\n", library
    )
    assert "libkernel.so" not in {file.name for file in program.examine(str(path)).files}


def test_a_missing_library(folder: Path) -> None:
    library = build(folder, "libgone.so", "int f(void) { return 0; }\n", "-shared", "-fPIC")
    path = build(
        folder, "lost", "int f(void);\nint main(void) { return f(); }\n", f"-L{folder}", "-lgone"
    )
    library.unlink()
    with pytest.raises(KbridgeError, match=r"library libgone\.so is not found") as caught:
        program.examine(str(path))
    assert caught.value.status == 127


def test_a_missing_interpreter(folder: Path) -> None:
    path = build(folder, "foreign", MAIN, "-Wl,--dynamic-linker=/nowhere/ld.so")
    with pytest.raises(KbridgeError, match=r"interpreter /nowhere/ld\.so is not") as caught:
        program.examine(str(path))
    assert caught.value.status == 127


def _bad(folder: Path, kind: str) -> str:
    path = folder / f"bad-{kind}"
    contents = {
        "script": b"#!/bin/sh -e\necho\n",
        "text": b"hello\n",
        "source": b"int main(void) { return 0; }\n",
        "empty": b"",
        "short": b"\x7fELF\x02\x01\x01",
    }
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path, 0o755)
    elif kind == "mode":
        build(folder, "bad-mode", MAIN).chmod(0o644)
    elif kind == "object":
        return str(build(folder, "bad.o", MAIN, "-c"))
    elif kind != "missing":
        path.write_bytes(contents.get(kind, b"\x7fELF"))
        path.chmod(0o644 if kind == "source" else 0o755)
    return str(path)


@pytest.mark.parametrize(
    ("kind", "status", "said"),
    [
        ("missing", 127, "No such file"),
        ("folder", 126, "is a folder"),
        ("pipe", 126, "a device, pipe or socket"),
        ("script", 126, "a script"),
        ("text", 126, "not an ELF program"),
        ("empty", 126, "not an ELF program"),
        ("short", 126, "damaged ELF file"),
        ("mode", 126, "not executable"),
        ("object", 126, "no program"),
        ("source", 126, "not an ELF program"),
    ],
)
def test_what_cannot_run(tmp_path: Path, kind: str, status: int, said: str) -> None:
    with pytest.raises(KbridgeError, match=said) as caught:
        program.examine(_bad(tmp_path, kind))
    assert caught.value.status == status
    assert caught.value.hint
    if kind == "script":
        assert f"--file {tmp_path}/bad-script:{tmp_path}/bad-script /bin/sh -e" in caught.value.hint


def test_names_without_a_slash_are_looked_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").touch()
    for name, hint in (("here", "./here"), ("nowhere-at-all", "path")):
        with pytest.raises(KbridgeError, match="not found in PATH") as caught:
            program.locate(name)
        assert caught.value.status == 127
        assert hint in (caught.value.hint or "")
    with pytest.raises(KbridgeError, match="empty"):
        program.locate("")
    with pytest.raises(KbridgeError, match=r"^\.: is a folder$"):
        program.locate(".")
    os.symlink("/usr/bin", tmp_path / "bin")
    assert program.locate("bin/../share") == Path("/usr/share")


@pytest.mark.parametrize("how", [".", "", "libs/../libs", "by its path", "preloaded"])
def test_libraries_in_relative_folders(
    tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "libs").mkdir()
    place = "libs" if how == "libs/../libs" else "."
    library = build(tmp_path, "libown.so", "int f(void) { return 0; }\n", "-shared", "-fPIC")
    library.rename(tmp_path / place / library.name)
    use = ["./libown.so"] if how == "by its path" else [f"-L{place}", "-lown"]
    path = build(tmp_path, "uses", "int f(void);\nint main(void) { return f(); }\n", *use)
    if how == "preloaded":
        path = build(tmp_path, "plain", MAIN)
        monkeypatch.setenv("LD_PRELOAD", "./libown.so")
    elif how != "by its path":
        monkeypatch.setenv("LD_LIBRARY_PATH", how or "/nowhere:")
    found = [file for file in program.examine(str(path)).files if file.name == "libown.so"]
    assert [file.resolve() for file in found] == [tmp_path / place / "libown.so"]
    assert all(file.is_absolute() for file in found)


def test_listings_of_glibc_and_musl() -> None:
    text = (
        "\tlinux-vdso.so.1 (0x00007ffc)\n\tlibfoo.so => /opt/a b/libfoo.so (0x00007f00)\n"
        "\t/lib64/ld-linux-x86-64.so.2 (0x00007f01)\n\tlibbar.so => not found\n"
        "\t/lib/ld-musl-x86_64.so.1 (0x7f)\n\tlibc.musl => /lib/ld-musl-x86_64.so.1 (0x7f)\n"
        "Error loading shared library libbaz.so: No such file or directory (needed by x)\n"
    )
    expected = ["/opt/a b/libfoo.so", "/lib64/ld-linux-x86-64.so.2"]
    expected += ["/lib/ld-musl-x86_64.so.1"] * 2
    assert [str(path) for path in program.listed(text)] == expected
    assert program.missing(text) == ["libbar.so", "libbaz.so"]
