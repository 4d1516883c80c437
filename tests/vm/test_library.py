# SPDX-License-Identifier: GPL-2.0-only
"""A privileged program takes libkernel.so only from where nobody else can write, and only that of
this kernel and this boot."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import Kbridge
from guest_shell import LIBRARIES, build, console_log_environment
from kernel_log import complaints

from kbridge import libkernel
from kbridge.kernels import image as images
from kbridge.kernels import target

KERNELS = [kernel.release for kernel in target.installed()] or ["none installed"]
PROGRAMS = Path(__file__).parent / "programs"
IMPOSSIBLE = 0x3FE00000  # bytes that no KASLR moves a kernel: it would not fit

# Each case leaves one line: its name, the program's status, what it said.
SCRIPT = """
run() {{
    label=$1; shift
    said=$(env "$@" {program} 2>&1); status=$?
    echo "case $label: $status: $(echo $said | busybox tr '\\n' ' ')"
}}
busybox ls -l /run/kbridge/libkernel.so
busybox mkdir -m 777 /open; busybox mkdir -m 700 /own; busybox mkdir -m 1777 /sticky
busybox cp /run/kbridge/libkernel.so /good
for place in open own sticky; do busybox cp /good /$place/libkernel.so; done
run "ours comes first" LD_LIBRARY_PATH=/open
busybox rm /run/kbridge/libkernel.so
run "open folder" LD_LIBRARY_PATH=/open
run "sticky folder" LD_LIBRARY_PATH=/sticky
run "own folder" LD_LIBRARY_PATH=/own
busybox chmod 666 /own/libkernel.so
run "open file" LD_LIBRARY_PATH=/own
busybox chmod 600 /own/libkernel.so; busybox chown 1000 /own/libkernel.so
run "another's file" LD_LIBRARY_PATH=/own
busybox mkdir -m 755 /open/below; busybox cp /good /open/below/libkernel.so
run "below an open folder" LD_LIBRARY_PATH=/open/below
busybox mkdir -m 755 /sticky/below; busybox cp /good /sticky/below/libkernel.so
run "below a sticky folder" LD_LIBRARY_PATH=/sticky/below
busybox cp {stale} /run/kbridge/libkernel.so
run "of another boot" A=b
busybox cp {other} /run/kbridge/libkernel.so
run "of another kernel" A=b
busybox cp {unknown} /run/kbridge/libkernel.so
run "of no known kernel" A=b
busybox cp /good /run/kbridge/libkernel.so
run "good again" A=b
"""


def made(folder: Path, name: str, release: str, *, slide: int = 0, known: bool = True) -> Path:
    table = images.symbols(release)
    if known:
        libkernel.write_runtime(table, folder / name, slide=slide)
    else:
        library = libkernel.runtime(table.resolvable(), libkernel.Origin(release, ""))
        library.write(folder / name)
    return folder / name


@pytest.mark.parametrize("release", KERNELS[-1:])
def test_which_libraries_are_taken(kbridge: Kbridge, release: str, tmp_path: Path) -> None:
    program = tmp_path / "where"
    build(kbridge, PROGRAMS / "where.c", PROGRAMS / "where_kmod.c", program, release)
    files = {
        "stale": made(tmp_path, "stale.so", release, slide=IMPOSSIBLE),
        "unknown": made(tmp_path, "unknown.so", release, known=False),
    }
    # the same addresses, but it says that it is another build's
    other = bytearray(made(tmp_path, "other.so", release).read_bytes())
    build_id = images.symbols(release).build_id.encode()
    place = other.index(build_id)
    other[place : place + 4] = b"0000" if build_id[:4] != b"0000" else b"1111"
    (tmp_path / "other.so").write_bytes(other)
    files["other"] = tmp_path / "other.so"
    share = [str(path) for path in (*LIBRARIES, program, *files.values())]
    words = [word for path in share for word in ("--file", f"{path}:{path}")]
    script = SCRIPT.format(program=program, **files)
    log = tmp_path / "console"
    how = ["--kernel", release, "--timeout", "120", *words, "/bin/busybox", "sh", "-c", script]
    done = kbridge("run", *how, env=console_log_environment(log))
    assert done.returncode == 0, done.stdout + done.stderr
    said = {
        label: (int(status), text)
        for label, status, text in re.findall(r"^case (.*?): (\d+): (.*)$", done.stdout, re.M)
    }
    good = ("ours comes first", "own folder", "below a sticky folder", "good again")
    for label in good:
        status, text = said.pop(label)
        assert (status, text.endswith("ok kb_symbol ")) == (0, True), (label, done.stdout)
    expected = {
        "open folder": "others could have written the libkernel.so that it loaded: /open/lib",
        "sticky folder": "others could have written",
        "open file": "others could have written",
        "another's file": "others could have written",
        "below an open folder": "others could have written",
        "of another boot": "libkernel.so has the kernel's addresses of another boot",
        "of another kernel": "libkernel.so is not the running kernel's: /run/kbridge/",
        "of no known kernel": "libkernel.so is not the running kernel's",
    }
    assert said.keys() == expected.keys()
    for label, words_ in expected.items():
        status, text = said[label]
        assert (status, words_ in text, "hint:" in text) == (125, True, True), (label, text)
    assert re.search(r"^-rw------- .* /run/kbridge/libkernel.so$", done.stdout, re.M), done.stdout
    assert not complaints(log)


@pytest.mark.parametrize("release", KERNELS[-1:])
def test_a_library_of_only_what_the_program_needs(
    kbridge: Kbridge, release: str, tmp_path: Path
) -> None:
    program, folder = tmp_path / "where", tmp_path / "minimal"
    build(kbridge, PROGRAMS / "where.c", PROGRAMS / "where_kmod.c", program, release)
    words = ["--kernel", release, "-o", folder / "libkernel.so", "--only-needed", program]
    done = kbridge("gen-libkernel", *words)
    assert done.returncode == 0, done.stderr
    assert (folder / "libkernel.so").stat().st_size < 10_000
    script = f"busybox cp {folder}/libkernel.so /run/kbridge; {program}"
    share = [str(path) for path in (*LIBRARIES, program, folder / "libkernel.so")]
    files = [word for path in share for word in ("--file", f"{path}:{path}")]
    how = ["--kernel", release, "--append", "nokaslr", *files, "/bin/busybox", "sh", "-c", script]
    log = tmp_path / "console"
    done = kbridge("run", *how, env=console_log_environment(log))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "_text ffffffff81000000\nok   kb_symbol\n"
    assert not complaints(log)
