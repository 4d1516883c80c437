# SPDX-License-Identifier: GPL-2.0-only
"""What is read out of the commands that Kbuild saves, and how a kernel is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from kbridge.errors import CommandError, KbridgeError, UsageError
from kbridge.kernels import headers, kbuild, target


def saved(folder: Path, name: str, line: str) -> None:
    (folder / f".{name}.cmd").write_text(line + "\n\nsource_x := y\n")


@pytest.mark.parametrize("prefix", ["cmd_", "savedcmd_"])
def test_saved_commands_of_both_forms(tmp_path: Path, prefix: str) -> None:
    saved(
        tmp_path,
        "one.o",
        f"{prefix}{tmp_path}/one.o := gcc-12 -Wp,-MMD,{tmp_path}/.one.o.d -I./include "
        f"-DKBUILD_MODNAME='\"probe\"' -c -o {tmp_path}/one.o {tmp_path}/one.c  "
        f" ; ./tools/objtool/objtool --orc --module {tmp_path}/one.o",
    )
    compile_, objtool = kbuild._saved_command(tmp_path, "one.o")
    assert kbuild._strip_compile(compile_, tmp_path) == ["gcc-12", "-I./include"]
    assert objtool[:3] == ["./tools/objtool/objtool", "--orc", "--module"]


def test_no_objtool(tmp_path: Path) -> None:
    saved(tmp_path, "x.o", f"cmd_x.o := ld -r -o {tmp_path}/x.o @{tmp_path}/x.mod")
    link, objtool = kbuild._saved_command(tmp_path, "x.o")
    assert kbuild._strip_link(link, tmp_path) == ["ld", "-r"]
    assert objtool == []


def test_a_missing_or_empty_command_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(KbridgeError, match="Kbuild left no"):
        kbuild._saved_command(tmp_path, "one.o")
    saved(tmp_path, "one.o", "cmd_one.o :=")
    with pytest.raises(KbridgeError, match="no command"):
        kbuild._saved_command(tmp_path, "one.o")


def test_relative_folders_become_absolute() -> None:
    words = ["gcc", "-I./include", "-I/abs", "./tools/x", "-include", "./include/k.h", "-DX=./y"]
    assert kbuild._absolute(words, Path("/kdir")) == [
        "gcc", "-I/kdir/include", "-I/abs", "/kdir/tools/x", "-include", "/kdir/include/k.h",
        "-DX=./y",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("6.1.0-9-cloud-amd64", "6.1.0-56-cloud-amd64"),
        ("6.1.0-56-cloud-amd64", "6.12.117+deb12-cloud-amd64"),
        ("5.10.0-8-amd64", "6.1.0-1-amd64"),
    ],
)
def test_releases_sort_as_people_read_them(older: str, newer: str) -> None:
    assert target.release_key(older) < target.release_key(newer)


def kdir(folder: Path, release: str) -> Path:
    (folder / "include/generated").mkdir(parents=True)
    (folder / "include/config").mkdir()
    (folder / "Makefile").touch()
    (folder / "include/generated/utsrelease.h").write_text(f'#define UTS_RELEASE "{release}"\n')
    (folder / "include/config/kernel.release").write_text("6.1.192\n")
    return folder


def test_a_kdir_tells_its_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = kdir(tmp_path / "headers", "6.1.0-99-test")
    assert target.find(kdir=folder).release == "6.1.0-99-test"
    monkeypatch.setenv("KDIR", str(folder))
    assert target.find().kdir == folder
    with pytest.raises(UsageError, match="is for kernel"):
        target.find("1.2", folder)


def test_missing_headers_say_where_was_looked(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        target.find("0.0.1-none")
    assert "/lib/modules/0.0.1-none/build" in caught.value.message
    assert "linux-headers-0.0.1-none" in str(caught.value.hint)
    with pytest.raises(UsageError, match="not a prepared kernel header folder"):
        target.find(kdir=tmp_path)
    with pytest.raises(UsageError, match="no such kernel header folder"):
        target.find(kdir=tmp_path / "none")


def test_no_headers_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KDIR", raising=False)
    monkeypatch.setattr(target, "installed", list)
    monkeypatch.setattr(target, "HEADER_ROOTS", ("/nowhere/{release}",))
    with pytest.raises(KbridgeError) as caught:
        target.find()
    assert "/usr/src/linux-headers-*" in caught.value.message
    assert "apt-get install linux-headers" in str(caught.value.hint)


def test_module_exports(tmp_path: Path) -> None:
    folder = kdir(tmp_path / "headers", "x")
    (folder / "Module.symvers").write_text(
        "0x1\tvmlinux_thing\tvmlinux\tEXPORT_SYMBOL\t\n"
        "0x2\tmod_thing\tdrivers/my-mod\tEXPORT_SYMBOL_GPL\t\n"
    )
    found = headers.exports(folder)
    assert found is not None
    assert [one.crc for one in found.values()] == [1, 2]
    assert headers.of_modules(found) == {"mod_thing": "my_mod"}
    assert headers.exports(tmp_path) is None


def test_headers_that_another_folder_has(tmp_path: Path) -> None:
    folder, common = tmp_path / "headers", tmp_path / "common"
    for one in (folder, common):
        one.mkdir()
        (one / "Makefile").write_text(f"include {common}/Makefile\n" if one == folder else "")
    (common / "a.h").write_text("common\n")
    assert headers.file(folder, "a.h") == "common\n"
    (folder / "a.h").write_text("own\n")
    assert headers.file(folder, "a.h") == "own\n"
    assert headers.file(folder, "b.h") is None
    assert headers.file(tmp_path / "none", "b.h") is None


@pytest.mark.parametrize(
    ("program", "package"),
    [
        ("gcc-12", "gcc-12"),
        ("x86_64-linux-gnu-gcc-12", "gcc-12"),
        ("aarch64-linux-gnu-gcc-12", "gcc-12-aarch64-linux-gnu"),
        ("/opt/bin/aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu"),
    ],
)
def test_the_package_of_a_compiler_that_is_missing(
    tmp_path: Path, program: str, package: str
) -> None:
    problem = CommandError("it failed", stderr=f"/bin/sh: 1: {program}: not found\n")
    hint = kbuild._explain(problem, target.KernelTarget("6.1.0-test", tmp_path)).hint
    assert str(hint).endswith(f": apt-get install {package}")
