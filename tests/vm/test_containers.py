# SPDX-License-Identifier: GPL-2.0-only
"""A program built in a container, for a kernel that does not run here, runs outside, and whole.

buildah builds it, without a registry and without a network name space; what it stores is gone
afterwards.
"""

from __future__ import annotations

import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import containers
import pytest
from conftest import Kbridge, Record
from containers import Buildah

from kbridge import paths
from kbridge.kernels import image as images
from kbridge.kernels import target
from kbridge.vm import hostroot

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "samples/container"
pytestmark = pytest.mark.timeout(1800)  # a base image may have to be made first
RELEASE = target.installed()[0].release.replace("-cloud-", "-")
BUILD = ("where.c", "--kmod", "where_kmod.c")

# In the build stage, after the program is built: /usr/src/linux-headers-$(uname -r) now says that
# the machine's kernel has headers here, as it would have on the machine.
TRIED = """\
RUN cp -r "/usr/src/linux-headers-$KERNEL" "/usr/src/linux-headers-$(uname -r)" \\
 && sed -i "s/$KERNEL/0.0.1-trap/" \\
        "/usr/src/linux-headers-$(uname -r)/include/generated/utsrelease.h" \\
 && kbridge build where.c --kmod where_kmod.c -o /tmp/where \\
 && kbridge kernels
RUN rm -rf /usr/src/linux-headers-* /lib/modules \\
 && if kbridge build where.c --kmod where_kmod.c -o /tmp/none; then exit 1; fi; ls /tmp
"""


def pip(*words: str | Path) -> None:
    command = [sys.executable, "-m", "pip", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def put_wheels(folder: Path) -> None:
    """kbridge, of this checkout, and what it needs, for the container's Python."""
    folder.mkdir()
    pip("wheel", "-q", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT)
    (own,) = folder.iterdir()
    constraints = ROOT / "scripts/constraints.txt"
    key = paths.fingerprint([constraints, ROOT / "pyproject.toml"], containers.PYTHON)
    kept = paths.cache("containers") / f"wheels-{key}"
    if not kept.is_dir():
        made = folder.with_name("downloaded")
        pages = [f"manylinux_2_{minor}_x86_64" for minor in (17, 27, 28)]
        how = ["--only-binary=:all:", f"--python-version={containers.PYTHON}"]
        how += [f"--platform={page}" for page in pages]
        pip("download", "-q", *how, "-c", constraints, "-d", made, own)
        shutil.copytree(made, kept.with_name(f".{kept.name}"), dirs_exist_ok=True)
        kept.with_name(f".{kept.name}").rename(kept)
    for wheel in kept.iterdir():
        if not wheel.name.startswith("kbridge-"):
            shutil.copy(wheel, folder)


def context(folder: Path, kbridge: Kbridge, *how: str) -> str:
    """The folder that the container is built of, and the Containerfile's text."""
    shutil.copytree(SAMPLE, folder, ignore=shutil.ignore_patterns("*.md"))
    put_wheels(folder / "wheels")
    words = ("containerfile", *BUILD, "--kernel", RELEASE, *how, "-o", "Containerfile")
    written = kbridge(*words, cwd=folder)
    assert (written.returncode, written.stderr) == (0, "")
    return (folder / "Containerfile").read_text()


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    made = Buildah(tmp_path_factory.mktemp("buildah"))
    yield made
    made.remove()


@dataclass(frozen=True)
class Built:
    """`said`: by the build.  `root`: the container's, as buildah mounts it."""

    said: str
    root: Path


@pytest.fixture(scope="module")
def built(buildah: Buildah, kbridge: Kbridge, tmp_path_factory: pytest.TempPathFactory) -> Built:
    base = containers.import_base(buildah, containers.base_with_headers(RELEASE))
    folder = tmp_path_factory.mktemp("context") / "my program"
    text = context(folder, kbridge, "--base", base)
    start, build, last = text.split("\nFROM ")
    (folder / "Containerfile").write_text(f"{start}\nFROM {build}{TRIED}\nFROM {last}")
    done = buildah.try_("build", "--pull-never", "--tag", "where", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    container = buildah("from", "--pull-never", "localhost/where")
    return Built(done.stdout + done.stderr, Path(buildah("mount", container)))


def test_uname_is_not_asked_in_a_container(built: Built) -> None:
    """Although there are headers that pass for those of the kernel that runs."""
    running = re.escape(platform.release())
    chosen = rf"a container \(\S+\), so uname -r \({running}\) is not asked: kernel {RELEASE}"
    assert re.search(chosen, built.said), built.said
    assert f"built /tmp/where for kernel {RELEASE}" in built.said
    assert re.search(rf"^{RELEASE} .* newest$", built.said, re.MULTILINE)


def test_a_container_without_headers(built: Built) -> None:
    assert "error: no kernel headers: looked in /lib/modules/*/build" in built.said
    assert "in a container, install those of the kernel to build for" in built.said


def test_the_program_runs_outside(
    built: Built, kbridge: Kbridge, tmp_path: Path, record_property: Record
) -> None:
    record_property("kernel", RELEASE)
    program = tmp_path / "where"
    shutil.copy(built.root / "usr/local/bin/where", program)
    done = kbridge("run", "--timeout", "240", program)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"root: no distribution; kernel: {RELEASE}\n"


def test_the_container_is_the_machines_root(
    built: Built, kbridge: Kbridge, record_property: Record
) -> None:
    """PROG is found in its PATH; the shell, the libraries and what it reads are the container's."""
    record_property("kernel", RELEASE)
    run = ("run", "--timeout", "240", "--root", built.root)
    done = kbridge(*run, "where")
    assert done.returncode == 0, done.stderr
    root = r"root: Debian GNU/Linux \d+ .*; kernel: " + re.escape(RELEASE)
    assert re.fullmatch(root, done.stdout.strip())
    (built.root / "etc/hostname").write_text("of the container\n")
    script = "where && cat /etc/hostname && echo new >/etc/new && cat /etc/new && ls /usr/src"
    done = kbridge(*run, "--kernel", RELEASE, "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert re.fullmatch(root, lines[0])
    assert lines[1:3] == ["of the container", "new"]
    assert f"linux-headers-{RELEASE}" in lines  # which the last stage still has
    assert not (built.root / "etc/new").exists()
    missing = kbridge("run", "--root", built.root, built.root / "usr/local/bin/where")
    assert missing.returncode == 127
    assert "did you mean /usr/local/bin/where?" in missing.stderr


def test_a_base_that_is_not_there(buildah: Buildah, kbridge: Kbridge, tmp_path: Path) -> None:
    shutil.copytree(SAMPLE, tmp_path / "x")
    words = (*BUILD, "--base", "localhost/none", "-o", "Containerfile")
    assert kbridge("containerfile", *words, cwd=tmp_path / "x").returncode == 0
    done = buildah.try_("build", "--pull-never", tmp_path / "x")
    assert done.returncode
    assert "localhost/none" in done.stderr


# Rootless


def site(folder: Path, wheels: Path) -> None:
    """kbridge for Debian's own Python, which other users may run."""
    how = ["--only-binary=:all:", f"--python-version={containers.PYTHON}", "--no-index"]
    found = ["--find-links", wheels, *wheels.glob("kbridge-*.whl")]
    pip("install", "-q", "--target", folder, *how, *found)


def lend_kernel(cache: Path) -> None:
    """What this user's cache has of the kernel, in another one's."""
    images.find(RELEASE)
    hostroot.headers(RELEASE)
    for part in ("images", "headers"):
        if (paths.cache(part) / RELEASE).is_dir():
            (cache / part).mkdir(parents=True)
            subprocess.run(["cp", "-a", paths.cache(part) / RELEASE, cache / part], check=True)


@pytest.mark.slow
def test_rootless(kbridge: Kbridge) -> None:
    """An ordinary user builds it, and runs it with the container's root: users are as inside."""
    with containers.ordinary_user() as user:
        home = user.home
        environment = {
            "HOME": str(home),
            "XDG_RUNTIME_DIR": str(home / "runtime"),
            "KBRIDGE_CACHE": str(home / "cache"),
            "PYTHONPATH": str(home / "site"),
        }
        text = context(home / "context", kbridge, "--base", "localhost/kbridge-base")
        owned = "RUN touch /owned && chown 33:44 /owned\n"
        (home / "context/Containerfile").write_text(text + owned)
        site(home / "site", home / "context/wheels")
        lend_kernel(home / "cache")
        shutil.copytree(containers.base_with_headers(RELEASE), home / "layout")
        for name in ("runtime", "buildah", "buildah/tmp"):
            (home / name).mkdir(mode=0o700)
        user.own(*home.iterdir())
        buildah = Buildah(home / "buildah", user.before, environment)
        containers.import_base(buildah, home / "layout")
        buildah("build", "--pull-never", "--tag", "where", home / "context")
        container = buildah("from", "--pull-never", "localhost/where")
        mount = shlex.join(Buildah(buildah.folder).words("mount", container))
        script = "where; stat -c %u:%g /owned /etc/passwd; id -u"
        line = (
            f'/usr/bin/python3 -m kbridge run --timeout 240 --kernel {RELEASE} --root "$({mount})"'
        )
        done = buildah.try_("unshare", "sh", "-c", f"{line} sh -c {shlex.quote(script)}")
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert lines[0].endswith(f"; kernel: {RELEASE}")
        assert lines[1:] == ["33:44", "0:0", "0"]
        buildah.remove()


@pytest.mark.slow
def test_from_nothing_but_debian(buildah: Buildah, kbridge: Kbridge, tmp_path: Path) -> None:
    """The Containerfile as it is: it installs the compiler and the headers, fetches the image."""
    containers.import_base(buildah, containers.base())
    context(tmp_path / "context", kbridge, "--base", "localhost/kbridge-base")
    buildah("build", "--pull-never", "--tag", "bare", tmp_path / "context")
    root = Path(buildah("mount", buildah("from", "--pull-never", "localhost/bare")))
    assert not (root / "usr/bin/gcc").exists()
    done = kbridge("run", "--timeout", "240", "--root", root, "where")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f"; kernel: {RELEASE}\n")
