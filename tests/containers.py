# SPDX-License-Identifier: GPL-2.0-only
"""Containers without a registry: base images out of mmdebstrap, and buildah that leaves nothing.

Base images are dear, so they are kept in the user's cache, as OCI layouts.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kbridge import paths
from kbridge.kernels import image, packages

SUITE = "bookworm"
# What templates/Containerfile.j2 installs beside the headers.
TOOLS = ("gcc", "kmod", "libbpf1", "libc6-dev", "make", "python3-venv")
_LEFT_OUT = ("/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/man/*")
_FORM = "1"  # of base images; to be raised where old ones lack something
PYTHON = "3.11"  # of that suite


@dataclass(frozen=True)
class User:
    """`before`: words that make a command this user's."""

    home: Path
    before: Sequence[str]

    def own(self, *folders: Path) -> None:
        """What root has put there becomes the user's."""
        if self.before:
            owner = self.home.stat()
            ids = f"{owner.st_uid}:{owner.st_gid}"
            subprocess.run(["chown", "-hR", ids, *folders], check=True)


@dataclass
class Buildah:
    """buildah with a storage of its own in `folder`; `before`, `environment`: of another user."""

    folder: Path
    before: Sequence[str] = ()
    environment: dict[str, str] = field(default_factory=dict)

    def env(self) -> dict[str, str]:
        temporary = self.folder / "tmp"
        temporary.mkdir(exist_ok=True)
        return {
            **os.environ,
            "TMPDIR": str(temporary),
            "BUILDAH_ISOLATION": "chroot",
            **self.environment,
        }

    def words(self, *words: str | Path) -> list[str]:
        storage = ["--root", f"{self.folder}/storage", "--runroot", f"{self.folder}/run"]
        how = [*storage, "--storage-driver", "vfs"]
        return [*self.before, "buildah", *how, *map(str, words)]

    def try_(self, *words: str | Path, **how: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.words(*words),
            **{"timeout": 800, "cwd": self.folder, **how},
            env=self.env(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def __call__(self, *words: str | Path, **how: Any) -> str:
        """Its standard output, stripped."""
        done = self.try_(*words, **how)
        assert done.returncode == 0, f"{words}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout.strip()

    def remove(self) -> None:
        """All that it stored and mounted."""
        self("rm", "--all")
        if self.environment:  # rootless: files of users that are only in its name space
            self("unshare", "rm", "-rf", self.folder / "storage", self.folder / "tmp")
        shutil.rmtree(self.folder)
        mounted = Path("/proc/self/mounts").read_text()
        assert str(self.folder) not in mounted


def _made(name: str, folder: Path, include: Sequence[str], files: dict[str, Path]) -> None:
    """An OCI layout in `folder`: a Debian with these packages and files."""
    tree = folder / "base.tar"
    exclude = [f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT]
    words = [f"--include={','.join(include)}"] if include else []
    subprocess.run(
        ["mmdebstrap", "--quiet", "--variant=apt", *exclude, *words, SUITE, tree],
        stdin=subprocess.DEVNULL,
        timeout=1200,
        check=True,
    )
    work = folder / "buildah"
    work.mkdir()
    buildah = Buildah(work)
    container = buildah("from", "scratch")
    buildah("add", container, tree, "/")
    for place, file in files.items():
        buildah("copy", container, file, place)
    buildah("commit", container, "oci:made:base")
    (work / "made").rename(folder / name)
    buildah.remove()


def base(include: Sequence[str] = (), files: dict[str, Path] | None = None) -> Path:
    """The OCI layout of a minimal Debian with these packages and files; made once."""
    given = files or {}
    key = "\0".join([_FORM, SUITE, *include, *_LEFT_OUT, *given])
    name = f"{SUITE}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    kept = paths.cache("containers") / name
    if not kept.is_dir():
        with packages.beside(kept) as temporary:
            _made(name, temporary, include, given)
            (temporary / name).rename(kept)
    return kept


def base_with_headers(release: str) -> Path:
    """A base that has all that a build needs, and the kernel's image at its place in /boot."""
    vmlinuz = image.find(release).vmlinuz
    include = ("ca-certificates", *TOOLS, f"linux-headers-{release}")
    return base(include, {f"/boot/vmlinuz-{release}": vmlinuz})


def import_base(buildah: Buildah, layout: Path) -> str:
    """The name of the image that the layout holds."""
    link = buildah.folder / "base"  # buildah makes names of paths, and refuses some
    link.unlink(missing_ok=True)
    link.symlink_to(layout)
    found = buildah("pull", "--quiet", f"oci:{link.name}:base")
    buildah("tag", found, "localhost/kbridge-base")
    return "localhost/kbridge-base"


@contextlib.contextmanager
def ordinary_user() -> Iterator[User]:
    """A user who is not root, with a home; made for the purpose where root runs the tests."""
    with tempfile.TemporaryDirectory(prefix="kbridge-home-") as name:
        home = Path(name)
        if os.geteuid() != 0:
            yield User(home, ())
            return
        login = f"kbridge{os.getpid()}"
        # which also gives it ranges of user and group ids, for user name spaces
        subprocess.run(["useradd", "--home-dir", home, login], check=True)
        try:
            shutil.chown(home, login, login)
            yield User(home, ("setpriv", f"--reuid={login}", f"--regid={login}", "--init-groups"))
        finally:
            subprocess.run(["userdel", login], check=False, capture_output=True)
