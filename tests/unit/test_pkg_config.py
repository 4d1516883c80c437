# SPDX-License-Identifier: GPL-2.0-only
"""libkbridge.pc: pkg-config's words build a program that loads what it should."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Kbridge

from kbridge import __version__, makefile, paths, pkg_config, proc, runtime
from kbridge.errors import KbridgeError

APP = """
#include <kbridge.h>
int main(void) { return kb_symbol("") != 0; }
"""


def ask(folder: Path, *words: str) -> str:
    env = {"PKG_CONFIG_PATH": str(folder)}
    return proc.run(["pkg-config", *words, "libkbridge"], env=env).stdout.strip()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KBRIDGE_CACHE", str(tmp_path_factory.mktemp("a cache")))
        yield pkg_config.folder()


def test_a_program_is_built_with_it(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "app.c").write_text(APP)
    words = shlex.split(ask(folder, "--cflags", "--libs"))
    done = proc.run(["gcc", "-Wall", "-Werror", "app.c", *words, "-o", "app"], cwd=tmp_path)
    assert not done.stderr
    shown = proc.run(["readelf", "-d", tmp_path / "app"]).stdout
    assert "(NEEDED)             Shared library: [libkbridge.so]" in shown
    assert f"(RPATH)              Library rpath: [{runtime.RUN_FOLDER}]" in shown
    assert "RUNPATH" not in shown
    env = {**os.environ, "LD_LIBRARY_PATH": str(folder)}
    assert subprocess.run([tmp_path / "app"], env=env, check=False).returncode == 0


def test_a_library_that_needs_libkernel(folder: Path, tmp_path: Path) -> None:
    """ld has nothing to say of it, as of those that kbridge built."""
    (tmp_path / "app.c").write_text("int f(void); int main(void) { return f(); }\n")
    (tmp_path / "f.c").write_text('#include "kbridge.h"\nint f(void) { return !kb_symbol; }\n')
    words = shlex.split(ask(folder, "--cflags", "--libs"))
    libraries = ["-Wl,--no-as-needed", folder / "needed/libkernel.so", *words]
    gcc = ["gcc", "-fPIC"]
    proc.run([*gcc, "-shared", "f.c", *libraries, "-o", "libf.so"], cwd=tmp_path)
    assert "[libkernel.so]" in proc.run(["readelf", "-d", tmp_path / "libf.so"]).stdout
    without = proc.run([*gcc, "app.c", "-L.", "-lf"], cwd=tmp_path, check=False)
    assert "libkernel.so, needed by ./libf.so, not found" in without.stderr
    done = proc.run([*gcc, "app.c", "-L.", "-lf", *words], cwd=tmp_path)
    assert not done.stderr


def test_its_other_fields(folder: Path) -> None:
    assert ask(folder, "--modversion") == __version__
    assert ask(folder, "--validate") == ""
    header = Path(ask(folder, "--variable=includedir").replace("\\ ", " ")) / "kbridge.h"
    assert header.read_text() == paths.source("runtime", "kbridge.h").read_text()


def test_the_command_prints_the_folder(kbridge: Kbridge, folder: Path) -> None:
    done = kbridge("pkg-config-path")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{folder}\n", "")
    done = kbridge("pkg-config-path", "there")
    assert done.returncode == 2
    assert "unrecognized arguments: there" in done.stderr


def test_what_an_older_version_left_is_replaced(folder: Path) -> None:
    (folder / "libkbridge.pc").write_text("Name: old\n")
    (folder / "include/kbridge.h").write_text("old\n")
    assert pkg_config.folder() == folder
    assert ask(folder, "--modversion") == __version__
    assert "kb_symbol" in (folder / "include/kbridge.h").read_text()


def test_a_folder_that_pkg_config_cannot_find(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KBRIDGE_CACHE", str(tmp_path / "a:b"))
    with pytest.raises(KbridgeError, match="a colon in its path") as raised:
        pkg_config.folder()
    assert "KBRIDGE_CACHE" in str(raised.value.hint)


def test_the_rules_for_makefiles(folder: Path, tmp_path: Path) -> None:
    """pkg-config's answer is what include takes: the folder has a space in its path."""
    (tmp_path / "Makefile").write_text(
        "include $(shell pkg-config --variable=makefile libkbridge)\nall: ; @echo '$(KB_OBJS)'\n"
    )
    done = proc.run(["make", "-s"], cwd=tmp_path, env={"PKG_CONFIG_PATH": str(folder)})
    assert done.stdout == "kmods.kb.o\n"


def test_two_kbridges_that_share_a_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rules of the one do not call the other, which may be removed."""
    before = (folder / makefile.NAME).read_text()
    monkeypatch.setattr(makefile, "own_command", lambda: ["/opt/other/kbridge"])
    other = pkg_config.folder()
    assert other != folder
    assert "KBRIDGE ?= /opt/other/kbridge\n" in (other / makefile.NAME).read_text()
    assert (folder / makefile.NAME).read_text() == before
