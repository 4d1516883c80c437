# SPDX-License-Identifier: GPL-2.0-only
"""The Debian packages: what they hold, what lintian says, and that the tool in them builds.

They are unpacked, not installed; test_deb_installed.py does that.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import installed
import pytest
from installed import SITE, Installed

from kbridge import __version__, options

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "samples/fd_info"
OWN = Path("usr/lib/kbridge")
# the first upload to Debian would close its "intent to package"
ALLOWED = {"initial-upload-closes-no-bugs"}
PC = Path("usr/lib") / installed.multiarch() / "pkgconfig/libkbridge.pc"


@pytest.fixture(scope="module")
def tool(packaged: Path) -> Installed:
    return installed.of_tree(packaged)


def files(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir()}


def test_lintian(packages: list[Path]) -> None:
    (changes,) = [path for path in packages if path.suffix == ".changes"]
    done = subprocess.run(["lintian", changes], capture_output=True, text=True, check=False)
    told = [line for line in done.stdout.splitlines() if re.match("[EW]: ", line)]
    assert not [line for line in told if line.split()[2] not in ALLOWED], done.stdout
    assert done.returncode == 0, done.stdout + done.stderr


def test_versions_are_kbridges(packages: list[Path]) -> None:
    versions = {path.name.split("_")[1] for path in packages}
    assert len(versions) == 1
    assert versions.pop().rpartition("-")[0] == __version__


def test_the_tool_is_what_the_wheel_is(packaged: Path, from_wheel: Installed) -> None:
    (site,) = Path(from_wheel.words[0]).parents[1].glob("lib/python3*/site-packages")
    expected = {name for name in files(site / "kbridge") if "__pycache__" not in name.parts}
    found = files(packaged / SITE / "kbridge")
    assert found == expected
    assert (packaged / SITE / "kbridge/data/bundled").is_symlink()
    for name in expected:
        assert (packaged / SITE / "kbridge" / name).read_bytes() == (
            site / "kbridge" / name
        ).read_bytes()


def test_all_that_it_depends_on_is_in_its_own_folder(packaged: Path, tool: Installed) -> None:
    told = (packaged / "usr/share/doc/kbridge/copyright").read_text()
    folders = [path.name for path in (packaged / OWN).glob("*.dist-info")]
    assert len(folders) > 5
    assert not (packaged / OWN / "usr").exists()
    assert not [
        name for name in folders if f"Files: usr/lib/kbridge/{name.split('-')[0]}*" not in told
    ]
    ask = (
        "import kbridge.bundled\n"
        "import capstone, elftools, jinja2, lief, lz4, lzallright, numpy, rich, zstandard\n"
        "for one in capstone, elftools, jinja2, lief, lz4, lzallright, numpy, rich, zstandard:\n"
        "    print(one.__file__)\n"
    )
    said = installed.run(tool.words[0], "-s", "-P", "-c", ask, env=tool.env).splitlines()
    assert not [name for name in said if not name.startswith(str(packaged / OWN))]


def test_programs_that_import_the_binding_keep_their_packages(tool: Installed) -> None:
    ask = "import kbridge, sys; print(sys.path, sys.meta_path); kbridge.elevated; "
    ask += "print(sys.path, sys.meta_path)"
    said = installed.run(tool.words[0], "-s", "-P", "-c", ask, env=tool.env).splitlines()
    assert said[0] == said[1]
    assert "lib/kbridge" not in said[0]
    assert "bundled" not in said[0]


def test_no_file_tells_where_it_was_built(packaged: Path) -> None:
    for name in ("kbridge-deb-", str(ROOT)):
        found = subprocess.run(
            ["grep", "--recursive", "--files-with-matches", "--fixed-strings", name, packaged],
            capture_output=True,
            text=True,
            check=False,
        )
        assert found.stdout == ""


def test_it_builds_a_program_and_a_libkernel(tool: Installed, tmp_path: Path) -> None:
    assert tool("--version", cwd=tmp_path) == f"kbridge {__version__}\n"
    app, kmod = SAMPLE / "fd_info.c", SAMPLE / "fd_info_kmod.c"
    tool("build", app, "--kmod", kmod, "-o", "fd info", cwd=tmp_path)
    assert "libkernel.so" in installed.run("readelf", "--dynamic", tmp_path / "fd info")
    tool("gen-libkernel", "-o", "libkernel.so", cwd=tmp_path)
    symbols = installed.run("readelf", "--dyn-syms", "--wide", tmp_path / "libkernel.so")
    assert " ksys_write@LINUX_KERNEL" in symbols


def test_doctor_is_content(tool: Installed, tmp_path: Path) -> None:
    """SCons is Debian's, and only suggested."""
    report = json.loads(tool("doctor", "--json", cwd=tmp_path))
    found = {one["name"]: one["state"] for one in report["checks"]}
    assert report["ok"]
    assert found["Python packages"] == "ok"
    assert found["SCons"] == ("ok" if shutil.which("scons", path=tool.env["PATH"]) else "extra")


def test_pkg_config_finds_the_library(packaged: Path, tmp_path: Path) -> None:
    env = installed.environment(
        PKG_CONFIG_LIBDIR=str((packaged / PC).parent), PKG_CONFIG_SYSROOT_DIR=str(packaged)
    )
    ask = ("pkg-config", "--cflags", "--libs", "libkbridge")
    words = installed.run(*ask, env={**env, "PKG_CONFIG_SYSROOT_DIR": ""}).split()
    folder = PC.parents[1]
    stub = f"-Wl,-rpath-link,/{folder}/kbridge/needed"
    assert stub in words
    assert (packaged / folder / "kbridge/needed/libkernel.so").is_file()
    source = tmp_path / "app.c"
    source.write_text("#include <kbridge.h>\nint main(void) { return kb_is_elevated(); }\n")
    how = (f"-I{packaged}/usr/include", f"-L{packaged / folder}")
    installed.run("cc", source, *how, *words, "-o", tmp_path / "app")
    told = installed.run("readelf", "--dynamic", tmp_path / "app")
    assert "[libkbridge.so]" in told
    assert "RPATH" in told
    assert "[/run/kbridge]" in told


def test_pkg_config_finds_the_rules_for_makefiles(packaged: Path, tmp_path: Path) -> None:
    env = installed.environment(PKG_CONFIG_LIBDIR=str((packaged / PC).parent))
    rules = installed.run("pkg-config", "--variable=makefile", "libkbridge", env=env).strip()
    file = f"{packaged}{rules}".replace(" ", "\\ ")
    (tmp_path / "Makefile").write_text(f"include {file}\nall: ; @echo '$(KBRIDGE) $(KB_OBJS)'\n")
    assert installed.run("make", "-s", cwd=tmp_path) == "kbridge kmods.kb.o\n"


def test_every_verb_has_its_man_page(packaged: Path) -> None:
    pages = {f"kbridge-{verb.name}.1.gz" for verb in options.VERBS} | {"kbridge.1.gz"}
    assert {path.name for path in (packaged / "usr/share/man/man1").iterdir()} == pages


def test_cmake_finds_its_file(packaged: Path) -> None:
    (folder,) = (packaged / "usr/share/cmake").iterdir()
    expected = {path.name for path in (ROOT / "templates/cmake").iterdir()}
    assert {path.name for path in folder.iterdir()} == expected


def test_dkms_gets_the_modules_sources(packaged: Path) -> None:
    sources = files(ROOT / "kernel/kelevate")
    ours = {name for name in sources if name.suffix in (".c", ".h", ".S", ".conf", "")}
    assert files(packaged / f"usr/src/kelevate-{__version__}") == ours
    assert (packaged / "usr/lib/udev/rules.d/72-kelevate.rules").is_file()


def test_bad_words_are_refused() -> None:
    for words in ((), ("--help-me",), ("a", "b")):
        command = [sys.executable, ROOT / "scripts/deb", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (2, "usage: scripts/deb FOLDER\n")


def test_a_folder_that_cannot_be_is_told_before_anything_is_built(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    command = [sys.executable, ROOT / "scripts/deb", tmp_path / "file"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"kbridge: error: cannot write {tmp_path}/file/")
    assert f"{tmp_path}/file is no folder" in done.stderr


def test_without_a_network(tmp_path: Path) -> None:
    """What was fetched is taken; else the error says what to do, and nothing is left."""
    script = (sys.executable, ROOT / "scripts/wheelhouse")
    nowhere = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}
    assert Path(installed.run(*script, env=os.environ | nowhere).strip()).is_dir()
    env = os.environ | nowhere | {"KBRIDGE_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(script, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "kbridge: error: fetching Python packages failed" in done.stderr
    assert done.stderr.endswith("kbridge: hint: check the network, then repeat\n")
    assert not list((tmp_path / "cache/wheels").iterdir())
