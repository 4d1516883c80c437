# SPDX-License-Identifier: GPL-2.0-only
"""kernel/kelevate/dkms.conf, by the real dkms, in folders of the test's own.

What dkms does to the machine (its hooks for new kernels, depmod, the firmware's keys) is not tried.
"""

from __future__ import annotations

import lzma
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from kbridge import __version__
from kbridge.kernels import target

SOURCE = Path(__file__).resolve().parents[2] / "kernel/kelevate"
KERNELS = [kernel.release for kernel in target.installed()] or ["none installed"]
MODULE = f"kelevate/{__version__}"


@dataclass(frozen=True)
class Dkms:
    """dkms with trees and keys in `folder`, where it would have /usr/src, /var/lib and /lib."""

    folder: Path

    def __call__(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        assert shutil.which("dkms", path=f"{os.environ['PATH']}:/usr/sbin"), "no dkms"
        trees = [f"--{name}tree={self.folder / name}" for name in ("source", "dkms", "install")]
        env = {
            **os.environ,
            "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin",
            "mok_signing_key": str(self.folder / "mok.key"),
            "mok_certificate": str(self.folder / "mok.pub"),
        }
        # it insists on root: that of a user namespace will do
        root = [] if os.geteuid() == 0 else ["unshare", "--map-root-user"]
        return subprocess.run(
            [*root, "dkms", *words, *trees], env=env, capture_output=True, text=True, check=False
        )

    def good(self, *words: str | Path) -> str:
        done = self(*words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def dkms(tmp_path: Path) -> Dkms:
    for name in ("source", "dkms", *(f"install/{release}" for release in KERNELS)):
        (tmp_path / name).mkdir(parents=True)
    shutil.copytree(SOURCE, tmp_path / "kelevate")  # to dkms, a path ends at a blank
    return Dkms(tmp_path)


def content(file: Path) -> bytes:
    """dkms packs a module as the kernel's own are packed."""
    return lzma.decompress(file.read_bytes()) if file.suffix == ".xz" else file.read_bytes()


def check_module(file: Path, release: str, folder: Path) -> None:
    plain = folder / "kelevate.ko"
    plain.write_bytes(content(file))
    told = {
        field: subprocess.run(
            ["/sbin/modinfo", "-F", field, plain], capture_output=True, text=True, check=True
        ).stdout
        for field in ("name", "vermagic", "signer")
    }
    assert told["name"] == "kelevate\n"
    assert told["vermagic"].startswith(f"{release} ")
    assert told["signer"] == "DKMS module signing key\n"


def test_it_has_the_version_of_kbridge() -> None:
    text = (SOURCE / "dkms.conf").read_text()
    assert f'PACKAGE_VERSION="{__version__}"' in text
    assert MODULE in (SOURCE.parent / "README.md").read_text()


@pytest.mark.parametrize(
    "release", [*(pytest.param(one, marks=pytest.mark.slow) for one in KERNELS[:-1]), KERNELS[-1]]
)
def test_from_add_to_remove(dkms: Dkms, tmp_path: Path, release: str) -> None:
    of_kernel = ["-k", release, "--no-depmod"]
    dkms.good("add", tmp_path / "kelevate")
    assert dkms.good("status") == f"{MODULE}: added\n"
    copied = tmp_path / f"source/kelevate-{__version__}"
    assert (copied / "main.c").read_text() == (SOURCE / "main.c").read_text()
    said = dkms.good("build", MODULE, *of_kernel)
    assert (tmp_path / "mok.key").is_file(), said  # the key is made with the first build
    assert f"{MODULE}, {release}, x86_64: built\n" in dkms.good("status")
    dkms.good("install", MODULE, *of_kernel)
    assert f"{MODULE}, {release}, x86_64: installed\n" in dkms.good("status")
    installed = list((tmp_path / "install" / release).rglob("kelevate.ko*"))
    assert [file.parent for file in installed] == [tmp_path / f"install/{release}/updates/dkms"]
    check_module(installed[0], release, tmp_path)
    dkms.good("uninstall", MODULE, *of_kernel)
    assert not list((tmp_path / "install").rglob("*.ko*"))
    dkms.good("remove", MODULE, "--all")
    assert dkms.good("status") == ""
    assert not (tmp_path / "dkms/kelevate").exists()


def test_a_kernel_that_lacks_what_it_needs_is_passed_over(dkms: Dkms, tmp_path: Path) -> None:
    """As a new kernel of another flavour comes: not built, and no failure of its installation."""
    real, kdir = target.find(KERNELS[-1]).kdir, tmp_path / "kdir"
    kdir.mkdir()
    for path in real.iterdir():
        (kdir / path.name).symlink_to(path)
    (kdir / ".config").unlink()
    configuration = (real / ".config").read_text()
    (kdir / ".config").write_text(configuration.replace("CONFIG_KPROBES=y\n", ""))
    dkms.good("add", tmp_path / "kelevate")
    done = dkms("build", MODULE, "-k", KERNELS[-1], "--kernelsourcedir", kdir)
    assert done.returncode == 77, done.stdout + done.stderr  # what autoinstall takes for "not here"
    assert "BUILD_EXCLUSIVE" in done.stdout + done.stderr
