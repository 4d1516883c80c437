# SPDX-License-Identifier: GPL-2.0-only
"""Finding and fetching kernel images, against an apt that is a script of this test."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from kbridge import progress
from kbridge.errors import KbridgeError, UsageError
from kbridge.kernels import image

RELEASE = "0.1.2-test-amd64"
APT = """#!/bin/sh
case "$*" in
madison*) [ -n "{offered}" ] && echo "p | {offered} | http://x" ;;
*download*) {download} ;;
esac
"""


class Archive:
    """Programs named as apt's, in front of PATH."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        monkeypatch.setenv("PATH", str(folder), prepend=":")

    def make(self, *, installed: str = "", offered: str = "", download: str = "true") -> None:
        text = APT.format(offered=offered, download=download)
        query = f'#!/bin/sh\n[ -n "{installed}" ] && printf "installed {installed}"\n'
        for name, content in (("apt-get", text), ("apt-cache", text), ("dpkg-query", query)):
            (self.folder / name).write_text(content)
            (self.folder / name).chmod(0o755)


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, temporary_cache: Path) -> Archive:
    assert temporary_cache
    (tmp_path / "bin").mkdir()
    return Archive(tmp_path / "bin", monkeypatch)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    root = tmp_path / "package"
    (root / "DEBIAN").mkdir(parents=True)
    fields = "Package: p\nVersion: 1-1\nArchitecture: amd64\nMaintainer: m <m@m>\nDescription: d\n"
    (root / "DEBIAN/control").write_text(fields)
    modules = root / "lib/modules" / RELEASE
    (modules / "kernel").mkdir(parents=True)
    for name in ("modules.order", "modules.builtin"):
        (modules / name).touch()
    (root / "boot").mkdir()
    (root / f"boot/vmlinuz-{RELEASE}").write_text("kernel")
    made = tmp_path / "p_1-1_amd64.deb"
    subprocess.run(["dpkg-deb", "-b", root, made], check=True, capture_output=True)
    return made


def cached(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "images").glob("*"))


def test_fetched_once(archive: Archive, package: Path, temporary_cache: Path) -> None:
    archive.make(installed="1-1", offered="1-1", download=f"cp '{package}' .")
    found = image.find(RELEASE)
    assert found.vmlinuz.read_text() == "kernel"
    assert found.modules == temporary_cache / "images" / RELEASE / "lib/modules" / RELEASE
    assert (found.modules / "modules.dep").is_file()
    assert cached(temporary_cache) == [RELEASE]
    archive.make(download="exit 1")
    assert image.find(RELEASE) == found
    assert image.find(RELEASE, download=False) == found


def test_what_takes_long_is_shown(
    archive: Archive, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown, doing = [], progress.doing

    def recorded(text: str) -> AbstractContextManager[None]:
        shown.append(text)
        return doing(text)

    monkeypatch.setattr(progress, "doing", recorded)
    archive.make(installed="1-1", offered="1-1", download=f"cp '{package}' .")
    image.find(RELEASE)
    assert shown == [f"fetching linux-image-{RELEASE}=1-1", f"unpacking {package.name}"]


@pytest.mark.parametrize(
    ("how", "said", "hint"),
    [
        ({}, "archive has no linux-image", "apt-get update"),
        ({"installed": "1-1", "offered": "1-2"}, "no longer has .* 1-1.* it has 1-2", "upgrade"),
        ({"download": "echo 'Could not resolve x' >&2; exit 100"}, "cannot fetch", "no network"),
        ({"download": "echo '404  Not Found' >&2; exit 100"}, "cannot fetch", "apt-get update"),
        ({"download": "echo odd >&2; exit 100"}, "cannot fetch", "by hand"),
        ({"download": "true"}, "left no package", ""),
        ({"download": "echo > p.deb"}, "unpacking p.deb failed", ""),
    ],
)
def test_what_can_go_wrong(
    archive: Archive, temporary_cache: Path, how: dict[str, str], said: str, hint: str
) -> None:
    archive.make(**({"offered": "1-1"} if "download" in how else {}), **how)
    with pytest.raises(KbridgeError, match=said) as caught:
        image.find(RELEASE)
    assert hint in (caught.value.hint or "")
    assert cached(temporary_cache) == []


def test_no_apt(monkeypatch: pytest.MonkeyPatch, temporary_cache: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(KbridgeError, match="no apt-get to fetch one") as caught:
        image.find(RELEASE)
    assert f"/boot/vmlinuz-{RELEASE}" in (caught.value.hint or "")
    assert cached(temporary_cache) == []


def test_places_are_named(temporary_cache: Path) -> None:
    with pytest.raises(
        KbridgeError, match=f"looked for /boot/vmlinuz-{RELEASE}, .*{temporary_cache}"
    ):
        image.find(RELEASE, download=False)
    for release in ("", "../../etc", "6.1 x", "-o"):
        with pytest.raises(UsageError, match="not a kernel release"):
            image.find(release)
