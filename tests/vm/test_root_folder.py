# SPDX-License-Identifier: GPL-2.0-only
"""kbridge run --root FOLDER: the guest's root is a folder that holds nothing but a program."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import Kbridge
from guest_shell import LIBRARIES

from kbridge.kernels import target
from kbridge.vm import hostroot

if TYPE_CHECKING:
    from vm.conftest import Guest

NEWEST = hostroot.newest()
OLDEST = target.installed()[0].release.replace("-cloud-", "-")
SAMPLE = Path(__file__).parents[2] / "samples/cr3"
KERNELS = [NEWEST, pytest.param(OLDEST, marks=pytest.mark.slow)]

SCRIPT = """#!/bin/sh
echo "$PWD $1 $HOME"; cat; cat /data
echo more >>/data; cat /link; mkdir -p /usr/new && echo >/tmp/x
[ -c /dev/null ] && [ -d /proc/1 ] && [ -d /sys/kernel ] && [ -d /run/kbridge ]; echo $? >&2
exit 7
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root of two files and a symlink, in a folder whose name QEMU could misread."""
    made = tmp_path / "a root, with=comma"
    (made / "bin").mkdir(parents=True)
    busybox = shutil.which("busybox")
    assert busybox
    shutil.copy(busybox, made / "bin/busybox")
    for name in ("sh", "cat", "mkdir"):
        (made / "bin" / name).symlink_to("/bin/busybox")
    (made / "data").write_text("from here\n")
    (made / "link").symlink_to("/data")
    (made / "script").write_text(SCRIPT)
    (made / "script").chmod(0o755)
    return made


@pytest.mark.parametrize("release", KERNELS)
def test_a_script_in_a_bare_root(quiet_guest: Guest, root: Path, release: str) -> None:
    """What it writes is not here afterwards, although root shares the folder."""
    before = sorted(root.rglob("*"))
    how = ("--root", root, "--kernel", release)
    done = quiet_guest(*how, "/script", "a word", input="input\n")
    assert done.returncode == 7, done.stderr
    assert done.stdout == "/ a word /root\ninput\nfrom here\nfrom here\nmore\n"
    assert done.stderr == "0\n"
    assert sorted(root.rglob("*")) == before
    assert (root / "data").read_text() == "from here\n"


@pytest.mark.parametrize("release", KERNELS)
def test_a_program_with_a_kmod(
    kbridge: Kbridge, quiet_guest: Guest, root: Path, release: str
) -> None:
    """Which kernel it is for says its library, that only the root has."""
    opt = root / "opt"
    opt.mkdir()
    headers = ("--kdir", hostroot.headers(release).kdir)
    kmod = ("--shared", "--kmod", SAMPLE / "cr3_kmod.c", "-o", opt / "libcr3.so")
    built = kbridge("build", *kmod, *headers)
    assert built.returncode == 0, built.stderr
    flags = ("-Wl,-rpath,$ORIGIN", "-Wl,--allow-shlib-undefined")
    words = [SAMPLE / "cr3.c", "-o", opt / "cr3", f"-L{opt}", "-lcr3", *flags]
    subprocess.run(["gcc", *words], check=True)
    for library in LIBRARIES:
        (root / library[1:]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, root / library[1:])
    done = quiet_guest("--root", root, "/opt/cr3")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("privilege level: app 3, kmod 0\nCR3 = 0x")
    refused = kbridge("run", "--root", root, "--kernel", "0.1.2", "/opt/cr3")
    assert refused.returncode == 125
    assert f"libcr3.so was built for kernel {release}, not 0.1.2" in refused.stderr
