# SPDX-License-Identifier: GPL-2.0-only
"""kbridge run on a machine whose own kernel has kelevate: a guest that has Python and kbridge."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

import numpy
import pytest
from conftest import Kbridge

from kbridge import runtime
from kbridge.kernels import target

ROOT = Path(__file__).parents[2]
VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
NOT_NEEDED = shutil.ignore_patterns(
    *("test", "tests", "idlelib", "lib2to3", "site-packages", "dist-packages", "ensurepip"),
    *("tkinter", "turtledemo", "config-*", "*.a"),
)


def libraries(files: Iterable[Path]) -> set[Path]:
    """The shared libraries of the machine that these ELF files need."""
    found = set()
    for file in files:
        listed = subprocess.run(["ldd", file], capture_output=True, text=True, check=False)
        found |= {Path(word) for word in re.findall(r"(/\S+) \(0x", listed.stdout)}
    return found


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A folder that becomes /py of the guest: Python, its library, kbridge and what it imports."""
    folder = tmp_path / "py"
    site = folder / "site"
    shutil.copytree(sysconfig.get_path("stdlib"), folder / "lib" / VERSION, ignore=NOT_NEEDED)
    (folder / "bin").mkdir()
    shutil.copy(Path(sys.executable).resolve(), folder / "bin/python")
    shutil.copy(shutil.which("readelf") or "", folder / "bin/readelf")
    packages = Path(numpy.__file__).parents[1]
    for name in ("numpy", "numpy.libs", "elftools"):
        shutil.copytree(packages / name, site / name, ignore=NOT_NEEDED)
    shutil.copytree(ROOT / "kbridge", site / "kbridge", ignore=NOT_NEEDED)
    for name in ("runtime", "kernel", "templates", "guest"):
        shutil.copytree(ROOT / name, site / "kbridge/data" / name)
    # compiled here: the guest has no compiler
    library = runtime.library()
    shutil.copytree(library.parent, folder / "cache/runtime" / library.parent.name)
    (folder / "libs").mkdir()
    elf = [*folder.glob("bin/*"), *folder.rglob("*.so*")]
    for file in libraries(elf):
        if folder not in file.parents and not (folder / "libs" / file.name).exists():
            shutil.copy(file, folder / "libs")
    return folder


def test_runs_on_the_kernel_that_is_there(kbridge: Kbridge, machine: Path, tmp_path: Path) -> None:
    release = target.installed()[0].release
    where = ROOT / "tests/vm/programs/where.c"
    program = tmp_path / "where"
    words = ["build", where, "--kmod", where.with_name("where_kmod.c"), "-o", program]
    done = kbridge(*words, "--kernel", release)
    assert done.returncode == 0, done.stderr
    seven = tmp_path / "seven.c"
    seven.write_text("#include <stdio.h>\nint main(void) { return getchar() == 'x' ? 7 : 1; }\n")
    subprocess.run(["gcc", "-static", "-o", tmp_path / "seven", seven], check=True)
    run = "/py/bin/python -m kbridge run"
    faulty = tmp_path / "faults"
    words = ["build", where.with_name("faults.c"), "--kmod", where.with_name("faults_kmod.c")]
    done = kbridge(*words, "-o", faulty, "--kernel", release)
    assert done.returncode == 0, done.stderr
    subprocess.run([sys.executable, "-m", "compileall", "-q", machine / "site"], check=False)
    script = f"""
        export PYTHONHOME=/py PYTHONPATH=/py/site KBRIDGE_CACHE=/py/cache
        export PATH=/py/bin:/bin LD_LIBRARY_PATH=/py/libs
        rm -rf /run/kbridge; cd {shlex.quote(str(tmp_path))}
        {run} -v ./where; echo "status $?"
        echo x | {run} ./seven; echo "status $?"
        {run} ./faults gate null_call; echo "status $?"
        /bin/busybox ls -ld /run/kbridge /run/kbridge/libkernel.so
        /bin/busybox chmod 755 /run/kbridge; {run} ./where; echo "status $?"
    """
    own = (program, faulty, tmp_path / "seven")
    share = [f"{machine}:/py", *(f"{file}:{file}" for file in own)]
    files = [word for pair in share for word in ("--file", pair)]
    loader = "/lib64/ld-linux-x86-64.so.2"
    for file in (loader, "/lib/x86_64-linux-gnu/libc.so.6"):
        files += ["--file", f"{file}:{file}"]
    shell = ["/bin/busybox", "sh", "-c", script]
    how = ["--kernel", release, "--memory", "2048", "--timeout", "240"]
    env = {**os.environ, "KBRIDGE_QEMU_CPU": "max"}  # NumPy needs x86-64-v2
    done = kbridge("run", *how, *files, *shell, env=env)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    statuses = re.findall(r"^status (\d+)$", done.stdout, re.MULTILINE)
    assert statuses == ["0", "7", "137", "125"], said
    assert done.stdout.count("ok   kb_symbol") == 1, said
    assert "on this machine's kernel" in done.stderr
    killed = "faults was killed by SIGKILL; the kernel says: BUG: kernel NULL pointer dereference"
    assert re.search(rf"{killed}.* in null_call\+0x\S+ \[kb:faults\]$", done.stderr, re.MULTILINE)
    assert re.search(r"^drwx------ .* /run/kbridge$", done.stdout, re.MULTILINE), said
    assert "is not root's own folder with mode 0700" in done.stderr
