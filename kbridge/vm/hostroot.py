# SPDX-License-Identifier: GPL-2.0-only
"""`--root host`: a guest whose root is this machine's, read-only, with memory over it.

virtme-ng finds the modules that mount this root over 9p, makes the initramfs that does it, and
knows QEMU's options for it.  Its own first process stays out: that gives a program a shell's
status, streams that no window holds back, an empty /tmp, and a boot that starts udev and more.
The first process is kbridge's own, as ever (guest/init.c), so streams, status, counts and what is
said of faults are those of every other run.

Not for the machine itself (machine.py, qemu.py).
"""

from __future__ import annotations

import itertools
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kbridge import bundled, log, paths, proc, progress
from kbridge.errors import KbridgeError, UsageError
from kbridge.kernels import image as images
from kbridge.kernels import packages
from kbridge.kernels import target as targets
from kbridge.kernels.image import KernelImage
from kbridge.kernels.target import KernelTarget
from kbridge.vm import contents, modules

MODULES = ("9p", "9pnet_virtio", "overlay")

_WORD = "kbridge-root="  # for guest/init.c
_GUEST = "init"  # our first process, in the folder that it is given


@dataclass(frozen=True)
class Root:
    """What virtme-ng made: an initramfs, QEMU's options, and how our first process is started."""

    initramfs: Path
    options: tuple[str, ...]
    start: tuple[str, ...]


# Which kernel


def lacks(image: KernelImage) -> list[str]:
    """The modules for it that the kernel has neither built in nor beside it."""
    if image.modules is None:
        return list(MODULES)
    known = modules.known(image.modules)
    return [name for name in MODULES if name not in known]


def _images_here() -> Iterator[KernelImage]:
    """The images that are here, newest first."""
    boot = [file.name.removeprefix("vmlinuz-") for file in Path("/boot").glob("vmlinuz-*")]
    places = (Path("/lib/modules"), paths.cache_place("images"))
    folders = [folder.name for place in places if place.is_dir() for folder in place.iterdir()]
    releases = {name for name in (*boot, *folders) if images.is_release(name)}
    for release in sorted(releases, key=targets.release_key, reverse=True):
        try:
            yield images.find(release, download=False)
        except KbridgeError:
            continue


def _generic(release: str) -> str:
    """Debian's flavour for all machines beside the one for clouds, which has no 9p."""
    return release.replace("-cloud-", "-")


def newest() -> str:
    """The newest kernel with 9p of those that are here; else the one to fetch."""
    for image in _images_here():
        if not lacks(image):
            return image.release
    return _generic(targets.find().release)


def find(release: str, *, download: bool = True) -> KernelImage:
    """A kernel's image, of one that reaches this machine's files.  Raises KbridgeError."""
    image = images.find(release, download=download)
    missing = lacks(image)
    if missing:
        other = _generic(release)
        named = other if other != release else "RELEASE"
        raise KbridgeError(
            f"--root: kernel {release} has no {', '.join(missing)}, by which a guest "
            "reaches this machine's files",
            hint=f"take one that has: --kernel {named} (a program with a kmod is built for it)",
        )
    return image


def headers(release: str) -> KernelTarget:
    """Of that kernel, for kelevate: installed, in the cache, or fetched into it (once; 3 MB).

    Debian's flavours of one kernel share most headers and Kbuild's programs, which are to be
    installed: only the flavour's own are fetched.
    """
    try:
        return targets.find(release)
    except UsageError as problem:
        kdir = targets.fetched(release)
        if not shutil.which("apt-get") or not packages.offered_versions(kdir.name):
            raise
        log.info(f"fetching the headers of kernel {release} into the cache (once)")
        _fetch_headers(kdir.name, paths.cache("headers") / release, problem)
        return targets.find(kdir=kdir)


def _fetch_headers(name: str, folder: Path, problem: UsageError) -> None:
    with packages.beside(folder) as temporary:
        fetched = packages.download(name, None, temporary, what="the kernel headers")
        unpacked = temporary / "unpacked"
        proc.run(["dpkg-deb", "-x", fetched, unpacked], what=f"unpacking {fetched.name}")
        kdir = unpacked / "usr/src" / name
        makefile = (kdir / "Makefile").read_text(errors="replace")
        common = makefile.partition("include ")[2].split("\n")[0]
        kbuild = Path("/usr/lib") / (kdir / "scripts").readlink().parts[-2]
        if not Path(common).is_file() or not kbuild.is_dir():
            raise problem  # which says what to install
        (unpacked / "usr/lib").mkdir(exist_ok=True)
        (unpacked / "usr/lib" / kbuild.name).symlink_to(kbuild)
        try:
            unpacked.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another kbridge was faster
                raise


def fetch() -> None:
    """All that a run without --kernel needs, where it is not here: what set-up calls."""
    release = newest()
    find(release)
    headers(release)


# What the guest gets


def fill(
    image: KernelImage, files: contents.GuestFiles, loaded: Sequence[Path], folder: Path
) -> None:
    """Fill our folder of this machine, which the guest's first process is given.

    `loaded`: modules that the program needs, in their order.
    """
    shutil.copyfile(contents.init_program(), folder / _GUEST)
    (folder / _GUEST).chmod(0o755)
    if image.modules:
        (folder / "lib-modules").symlink_to(image.modules.absolute())  # for modprobe
    for name, file in files.named():
        shutil.copyfile(file, folder / name)
    needed = modules.needed(image.modules, (*modules.CHANNEL, *MODULES))
    for listed, chosen in (("modules", needed), ("program-modules", loaded)):
        contents.write_modules(chosen, listed, folder)


def _tool() -> Path:
    """virtme-run that came with kbridge, of this Python's environment, else of PATH."""
    beside = Path(sys.executable).parent / "virtme-run"
    own = bundled.program("virtme-run") or (beside if beside.is_file() else None)
    found = own or shutil.which("virtme-run")
    if not found:
        raise KbridgeError(
            "--root host needs virtme-ng, which is not here",
            hint="install it beside kbridge: pip install virtme-ng==1.42",
        )
    return Path(found)


def _check_busybox() -> None:
    if not any(shutil.which(name) for name in ("busybox-static", "busybox.static", "busybox")):
        raise KbridgeError(
            "--root host needs a static busybox, which virtme-ng puts into the initramfs",
            hint="apt-get install busybox-static",
        )


def check_tools() -> Path:
    """virtme-ng's program.  Raises KbridgeError where it, or what it needs, is missing."""
    _check_busybox()
    return _tool()


def _ask(image: KernelImage, folder: Path) -> list[str]:
    """QEMU's command line as virtme-ng has it; the initramfs is made in `folder`."""
    tool = check_tools()
    how = ["--mods", "auto", "--force-9p", "--disable-kvm", "--script-sh", "true"]
    made: list[str | Path] = [
        "--save-initramfs",
        folder / "initramfs",
        "--dry-run",
        "--show-command",
    ]
    what = "asking virtme-ng for a machine with this one's root"
    with progress.doing(what):
        done = proc.run(
            [tool, "--kimg", image.vmlinuz, *how, *made],
            env={"TMPDIR": str(folder)},
            what=what,
            hint="see what it says above; kbridge is tested with virtme-ng 1.42",
        )
    return shlex.split(done.stdout.strip().splitlines()[-1]) if done.stdout.strip() else []


def described(release: str, folder: Path) -> Root:
    """As it would be, if `folder` were ours; nothing is left there.  Raises KbridgeError."""
    with paths.scratch() as made:
        root = prepare(find(release, download=False), made)
        start = (word.replace(str(made), str(folder)) for word in root.start)
        return Root(folder / "initramfs", root.options, tuple(start))


def prepare(image: KernelImage, folder: Path) -> Root:
    """`folder`: ours of this machine, see `fill`.  Raises KbridgeError."""
    argv = _ask(image, folder)
    options: list[str] = []
    for flag, value in itertools.pairwise(argv):
        if flag == "-fsdev" or (flag == "-device" and value.startswith("virtio-9p")):
            options += [flag, value]
    initramfs = folder / "initramfs"
    if len(options) != 4 or not initramfs.is_file():
        raise KbridgeError(
            "virtme-ng names no 9p root in the command that it would run",
            hint="kbridge is tested with virtme-ng 1.42: pip install virtme-ng==1.42",
        )
    return Root(initramfs, tuple(options), (f"init={folder / _GUEST}", "--", f"{_WORD}{folder}"))
