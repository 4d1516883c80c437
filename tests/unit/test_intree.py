# SPDX-License-Identifier: GPL-2.0-only
"""The parts of bench/corpus.py and its test that need no kernel."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from intree import programs, report, selection, sources
from intree.attempts import KBUILD, Attempt

from kbridge.errors import KbridgeError, UsageError
from kbridge.kernels.target import KernelTarget

RELEASE = "0.1.2-test-amd64"
MAKEFILE = """\
obj-$(CONFIG_ONE) += one.o \\
                     many.o
obj-$(CONFIG_OTHER) += other.o
many-y := one_part.o two_part.o
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A source package with a module's files, checkpatch, and a file that nobody wants."""
    top = tmp_path / "linux-source-0.1"
    unwanted = ("tools/perf/perf.c", "scripts/Lindent")
    for name in ("drivers/net/one.c", "drivers/net/Makefile", "scripts/checkpatch.pl", *unwanted):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(name)
    root = tmp_path / "package"
    (root / "usr/src").mkdir(parents=True)
    tarball = root / "usr/src/linux-source-0.1.tar.xz"
    subprocess.run(["tar", "-cJf", tarball, "-C", tmp_path, top.name], check=True)
    (root / "DEBIAN").mkdir()
    fields = "Package: p\nVersion: 1-1\nArchitecture: all\nMaintainer: m <m@m>\nDescription: d\n"
    (root / "DEBIAN/control").write_text(fields)
    made = tmp_path / "p_1-1_all.deb"
    subprocess.run(["dpkg-deb", "-b", root, made], check=True, capture_output=True)
    return made


def write_apt(folder: Path, offered: str, download: str) -> None:
    """Programs named as apt's, that say and do what a test wants."""
    folder.mkdir(exist_ok=True)
    madison = f'madison*) [ -z "{offered}" ] || echo "p | {offered} | http://x" ;;'
    apt = f'#!/bin/sh\ncase "$*" in\n{madison}\n*download*) {download} ;;\nesac\n'
    query = '#!/bin/sh\nprintf "installed 1-1"\n'
    for name, text in (("apt-get", apt), ("apt-cache", apt), ("dpkg-query", query)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)


def test_sources_are_fetched_once(
    tmp_path: Path, package: Path, temporary_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    write_apt(tmp_path / "bin", "", "exit 1")
    with pytest.raises(KbridgeError, match=r"has no linux-source-0\.1") as caught:
        sources.tree(RELEASE)
    assert "apt-get update" in (caught.value.hint or "")
    write_apt(tmp_path / "bin", "1-1", f"cp '{package}' .")
    tree = sources.tree(RELEASE)
    assert tree.parent == temporary_cache / "sources"
    found = sorted(str(file.relative_to(tree)) for file in tree.rglob("*") if file.is_file())
    assert found == ["drivers/net/Makefile", "drivers/net/one.c", "scripts/checkpatch.pl"]
    write_apt(tmp_path / "bin", "1-1", "exit 1")
    assert sources.tree(RELEASE) == tree
    assert sources.checkpatch(RELEASE) == tree / "scripts/checkpatch.pl"
    assert [path.name for path in tree.parent.iterdir()] == [tree.name]


def test_modules_of_a_folder(tmp_path: Path) -> None:
    folder, kdir = tmp_path / "drivers/net", tmp_path / "kdir"
    folder.mkdir(parents=True)
    (kdir / "include/config").mkdir(parents=True)
    (kdir / "include/config/auto.conf").write_text("CONFIG_ONE=m\n")
    (folder / "Makefile").write_text(MAKEFILE)
    for name in ("one", "many", "other", "one_part"):
        (folder / f"{name}.c").write_text('MODULE_LICENSE("GPL");\n')
    found = selection.modules(tmp_path, "drivers", KernelTarget(RELEASE, kdir))
    assert found == ["drivers/net/one.c"]
    assert selection.modules(tmp_path, "drivers") == ["drivers/net/one.c", "drivers/net/other.c"]
    with pytest.raises(UsageError, match="no such folder"):
        selection.modules(tmp_path, "nowhere")


def test_the_list_names_c_files_once() -> None:
    names = selection.read(selection.LIST)
    assert len(names) == len(set(names)) == 110
    assert all(name.startswith(sources.FOLDERS) and name.endswith(".c") for name in names)


def test_what_the_driver_says() -> None:
    lines = (
        "/m/a.so returned 0",
        "/m/b.so returned -19",
        "/m/c.so returned -517",
        "/m/d.so no init_module",
        "/m/e.so signal 9",
        "/m/f.so returned 0",
        "/m/f.so signal 11",
    )
    runs = programs.Runs(programs.read("\n".join(lines) + "\n"))
    assert runs.results == {
        "a.so": "0",
        "b.so": "-ENODEV",
        "c.so": "-EPROBE_DEFER",
        "d.so": programs.NO_INIT,
        "e.so": "killed by SIGKILL",
        "f.so": "0, then killed by SIGSEGV",
    }
    assert runs.called() == 3


def test_a_module_is_not_loaded_where_it_runs_as_a_program() -> None:
    plain = Attempt("lib/a.c", "pic")
    user = Attempt("lib/b.c", "pic", modules=("c_d",))
    used = Attempt("lib/c-d.c", "pic", modules=("e",))
    assert programs.groups([user, plain, used]) == [[plain], [user], [used]]


def test_tables() -> None:
    survey = report.Survey("6.1", "linux-source", ["a.c", "b.c", "c.c"], ["a.c", "b.c"])
    missing = Attempt("b.c", "pic", "b.c:1: kernel 6.1 has no symbol it")
    survey.attempts = {
        KBUILD: [Attempt("a.c", KBUILD), Attempt("b.c", KBUILD)],
        "pic": [Attempt("a.c", "pic", modules=("fat",)), missing],
    }
    survey.runs = {"pic": programs.Runs({"a.c": "0"})}
    assert report.count_rows([survey]) == [["6.1", "pic", "3", "2", "2", "1", "50.0%", "1"]]
    assert report.lost_rows([survey]) == [["b.c", "6.1", "pic", missing.error]]
    shown = report.markdown([survey], "a command")
    assert "| a.c | 0 |\n| b.c | - |\n| c.c | - |" in shown
    assert f"| b.c | 6.1 | pic | {missing.error} |" in shown
    survey.attempts[KBUILD][1] = Attempt("b.c", KBUILD, '"it" undefined!')
    assert report.lost_rows([survey]) == []
