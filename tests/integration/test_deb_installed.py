# SPDX-License-Identifier: GPL-2.0-only
"""The Debian packages, installed by apt in a Debian of their own, used there, and purged.

As piuparts does: afterwards every file is as it was.  There is no network, and no other package
than those that the packages depend on or recommend.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import debian_root
import pytest
from debian_root import Root

from kbridge import __version__

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
# what apt, dpkg, ldconfig and logs keep for themselves
OF_THE_SYSTEM = re.compile(
    r"var/log/.*|var/lib/apt/.*|var/cache/(apt|debconf|ldconfig|man)/.*|var/lib/dpkg/(status|"
    r"available|lock|triggers|alternatives)\b.*|etc/ld\.so\.cache|var/lib/systemd/.*"
)
# a person's own: no package removes it
CACHE = "root/.cache/kbridge"
USE = """
release=$(ls /lib/modules)
kbridge --version
kbridge kernels | grep "^$release .*newest"
cd /srv
kbridge new --build scons hello
cd hello
scons -Q
kbridge run --timeout 300 build/hello
cp -r /srv/samples/cmake .
cmake -S cmake -B built
cmake --build built
test -x built/uptime
cp -r /srv/samples/makefile .
sed -i 's/(shell .*/(shell pkg-config --variable=makefile libkbridge)/' makefile/Makefile
make -C makefile
test -x makefile/snapshot
kbridge gen-libkernel -o libkernel.so
readelf --dyn-syms --wide libkernel.so | grep -c ' ksys_write@LINUX_KERNEL'
echo 'int main(void) { return kb_is_elevated(); }' > bracket.c
cc -include kbridge.h bracket.c $(pkg-config --cflags --libs libkbridge) -o bracket
./bracket
man --where kbridge-build
bash -c "$COMPLETE"
python3 -c 'import kbridge; print(kbridge.__file__)'
cd /
rm -r /srv/hello /srv/samples
"""
# as bash does when somebody presses the tabulator
COMPLETE = """
. /usr/share/bash-completion/completions/kbridge
COMP_LINE='kbridge gen-l' COMP_POINT=13 COMP_TYPE=9 COMP_WORDBREAKS=' ' COMP_CWORD=1
COMP_WORDS=(kbridge gen-l)
_python_argcomplete kbridge gen-l kbridge
echo "${COMPREPLY[@]}"
"""
MODULE = """
release=$(ls /lib/modules)
dkms status
modinfo -k "$release" -F vermagic kelevate
"""


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Root]:
    made = debian_root.unpack(tmp_path / "root")
    yield made
    shutil.rmtree(made.folder)  # pytest would keep half a gigabyte


def changes(before: dict[str, tuple[object, ...]], root: Root) -> list[str]:
    """What is there that was not, is not there that was, or is another."""
    after = root.files()
    names = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    return sorted(name for name in names if not OF_THE_SYSTEM.fullmatch(name))


@pytest.mark.slow
def test_install_use_purge(root: Root, packages: list[Path]) -> None:
    before = root.files()
    folder = root.folder / "deb"
    folder.mkdir()
    names = []
    for package in packages:
        if package.suffix == ".deb":
            shutil.copy(package, folder)
            names.append(package.name.partition("_")[0])
    root("apt-get install --yes --no-install-recommends /deb/*.deb")
    shutil.rmtree(folder)

    release = next((root.folder / "lib/modules").iterdir()).name
    shutil.copytree(SAMPLES, root.folder / "srv/samples")
    said = root(f"export COMPLETE={shlex.quote(COMPLETE)}\n{USE}").splitlines()
    assert said[0] == f"kbridge {__version__}"
    assert said[-3:] == [
        "/usr/share/man/man1/kbridge-build.1.gz",
        "gen-libkernel ",
        "/usr/lib/python3/dist-packages/kbridge/__init__.py",
    ], said
    said = root(MODULE).splitlines()
    assert said[0] == f"kelevate/{__version__}, {release}, x86_64: installed"
    assert said[1].startswith(f"{release} ")

    new = changes(before, root)
    assert {"usr/bin/kbridge", "usr/include/kbridge.h"} <= set(new)
    assert not [name for name in new if "modules-load" in name]  # built, and not loaded
    root(f"apt-get purge --yes {' '.join(names)}")
    assert (root.folder / CACHE).is_dir()
    shutil.rmtree(root.folder / CACHE)
    left = [name for name in changes(before, root) if name not in ("root", "root/.cache")]
    assert not left
