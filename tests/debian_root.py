# SPDX-License-Identifier: GPL-2.0-only
"""A Debian in a folder, to install packages in, by mmdebstrap; kept packed in the user's cache.

It has what kbridge's packages depend on and recommend, and the image of the kernel whose headers
are in it, so that nothing is fetched while tests run.  Its kernel image is a file, not a package.
"""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from kbridge import log, paths, proc
from kbridge.kernels import packages

SUITE = "bookworm"
_PACKAGES = (
    "binutils", "cmake", "cpio", "dkms", "gcc", "kmod", "libbpf1", "libc6-dev",
    "linux-headers-cloud-amd64", "make", "man-db", "pkgconf", "python3", "qemu-system-x86", "scons",
)  # fmt: skip
# The image where a package would have it.  dkms calls depmod, whose files are then there already.
_IMAGE = """
set -e
mkdir /tmp/image
cd /tmp/image
for release in $(ls /lib/modules); do
    apt-get download "linux-image-$release"
    dpkg-deb -x ./*.deb unpacked
    cp -r unpacked/boot/. /boot
    cp -r unpacked/lib/modules/. /lib/modules
    depmod "$release"
done
cd /
rm -r /tmp/image
"""
_ENTER = """
mount --rbind /dev "$1/dev"
mount -t proc proc "$1/proc"
mount -t sysfs -o ro sysfs "$1/sys"
exec chroot "$1" /bin/sh -euc "$2"
"""
_ENVIRONMENT = {
    "DEBIAN_FRONTEND": "noninteractive",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
}


def _archives() -> list[str]:
    """Where this machine's apt has Debian's packages from; else mmdebstrap knows it."""
    line = "deb $(REPO_URI) $(RELEASE) $(COMPONENT)"
    ask = ["apt-get", "indextargets", "--format", line, "Created-By: Packages", "Origin: Debian"]
    listed = sorted(set(proc.run(ask).stdout.splitlines()))
    return listed if any(SUITE in words.split() for words in listed) else []


def packed() -> Path:
    """The tree as an archive, made (once; two minutes) where it is not there."""
    key = hashlib.sha256("\0".join([SUITE, *_PACKAGES, _IMAGE]).encode()).hexdigest()[:16]
    archive = paths.cache("sources") / f"debian-{SUITE}-{key}.tar.zst"
    if not archive.is_file():
        log.info(f"making a Debian {SUITE} for tests in the cache (once)")
        with packages.beside(archive) as temporary:
            made = temporary / archive.name
            what = ["--variant=minbase", f"--include={','.join(_PACKAGES)}"]
            what += ["--aptopt=APT::Install-Recommends false"]
            what += [f"--customize-hook=chroot \"$1\" sh -c '{_IMAGE}'"]
            proc.run(["mmdebstrap", "--quiet", *what, SUITE, made, *_archives()])
            made.rename(archive)
    return archive


@dataclass(frozen=True)
class Root:
    """A tree of its own, in `folder`."""

    folder: Path

    def __call__(self, script: str, seconds: float = 600) -> str:
        """What a shell prints, with it as its root, without a network.  It has to do well."""
        apart = ["unshare", "--mount", "--pid", "--net", "--fork", "--kill-child"]
        done = subprocess.run(
            [*apart, "/bin/sh", "-euc", _ENTER, "sh", self.folder, script],
            env=_ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def files(self) -> dict[str, tuple[object, ...]]:
        """Every file and folder: its mode, whose it is, and what is in it."""
        found: dict[str, tuple[object, ...]] = {}
        for folder, folders, names in os.walk(self.folder):
            for name in (*folders, *names):
                path = Path(folder, name)
                told = path.lstat()
                content: object = None
                if stat.S_ISLNK(told.st_mode):
                    content = path.readlink()
                elif stat.S_ISREG(told.st_mode):
                    content = hashlib.sha256(path.read_bytes()).digest()
                key = path.relative_to(self.folder).as_posix()
                found[key] = (told.st_mode, told.st_uid, told.st_gid, content)
        return found


def unpack(folder: Path) -> Root:
    """A fresh tree.  Raises AssertionError where one may not have it as a root."""
    assert os.geteuid() == 0, "a root of one's own takes root: run this test as root"
    folder.mkdir()
    proc.run(["tar", "--extract", "--zstd", "--file", packed(), "--directory", folder])
    return Root(folder)
