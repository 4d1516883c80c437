# SPDX-License-Identifier: GPL-2.0-only
"""gen-libkernel from what only a running kernel has: /proc/kallsyms and /proc/modules."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

from conftest import Kbridge
from elftools.elf.elffile import ELFFile
from guest_shell import LIBRARIES, console_log_environment
from kernel_log import complaints
from vm.test_native import machine  # noqa: F401, a fixture

from kbridge.kernels import image as images
from kbridge.kernels import target
from kbridge.vm import modules

# The files go out as base64: to look at 150,000 symbols in an emulated machine takes long.
SCRIPT = """
export PYTHONHOME=/py PYTHONPATH=/py/site KBRIDGE_CACHE=/py/cache
export PATH=/py/bin:/bin LD_LIBRARY_PATH=/py/libs
gen() {{ /py/bin/python -m kbridge gen-libkernel "$@"; echo "status $?"; }}
{insmod}
busybox cp /proc/modules /saved; busybox rmmod fat
gen --symbols /saved -o /tmp/no.so
{insmod}
echo 2 > /proc/sys/kernel/kptr_restrict
gen --symbols /proc/kallsyms -o /tmp/no.so
gen --symbols /proc/modules -o /tmp/no.so
echo 0 > /proc/sys/kernel/kptr_restrict
gen --symbols /proc/kallsyms --modules -o /tmp/both.so
gen --symbols /proc/modules -o /tmp/modules.so
busybox ls -l /tmp
for file in /proc/kallsyms /tmp/both.so /tmp/modules.so; do
    echo "file $file"; busybox base64 $file
done
"""


def symbols(content: bytes) -> dict[str, int]:
    rows = ELFFile(io.BytesIO(content)).get_section_by_name(".dynsym").iter_symbols()
    return {one.name: one["st_value"] for one in list(rows)[1:]}


def addresses(kallsyms: bytes) -> tuple[dict[str, set[int]], dict[str, set[int]]]:
    """Of the kernel's own symbols and of modules', by name."""
    own: dict[str, set[int]] = {"const_pcpu_hot": set()}  # an alias that kallsyms does not list
    others: dict[str, set[int]] = {}
    for line in kallsyms.decode().splitlines():
        address, _, name, *module = line.split()
        found = others if module else own
        if not module or not module[0].startswith(("[bpf]", "[__builtin__")):
            found.setdefault(name, set()).add(int(address, 16))
    return own, others


def check(found: dict[str, int], wanted: dict[str, set[int]]) -> None:
    """Every address is one that the kernel shows, and no name with one meaning is missing."""
    assert [n for n, a in found.items() if wanted.get(n) and a not in wanted[n]] == []
    assert [n for n in found if n not in wanted] == []
    assert [n for n, a in wanted.items() if len(a) == 1 and n not in found] == []


def test_the_running_kernels_own_symbols(
    kbridge: Kbridge,
    machine: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    release = target.installed()[-1].release
    share, insmod = {machine: "/py"}, []
    for file in modules.needed(images.find(release).modules, ("fat",)):
        unpacked = tmp_path / f"{file.name.partition('.ko')[0]}.ko"
        unpacked.write_bytes(modules.content(file))
        share[unpacked] = f"/{unpacked.name}"
        insmod.append(f"busybox insmod /{unpacked.name} 2>/dev/null")
    share.update({Path(file): file for file in LIBRARIES})
    files = [word for host, inside in share.items() for word in ("--file", f"{host}:{inside}")]
    script = SCRIPT.format(insmod="; ".join(insmod))
    how = ["--kernel", release, "--memory", "2048", "--timeout", "240"]
    log = tmp_path / "console"
    env = {**console_log_environment(log), "KBRIDGE_QEMU_CPU": "max"}  # NumPy needs x86-64-v2
    done = kbridge("run", *how, *files, "/bin/busybox", "sh", "-c", script, env=env)
    said = done.stderr + done.stdout  # of which there is much
    statuses = [line for line in done.stdout.splitlines() if line.startswith("status ")]
    assert statuses == [f"status {n}" for n in (1, 1, 1, 0, 0)], said[:5000]
    for says in (
        "the module fat is not loaded now, or lies elsewhere",
        "the kernel hides its addresses",
        "the kernel hides its modules' addresses",
        "kptr_restrict",
    ):
        assert says in done.stderr
    assert "no.so" not in done.stdout
    listed, *parts = done.stdout.split("\nfile ")
    assert re.search(r"^-rw------- .* both\.so$", listed, re.MULTILINE)
    contents = {
        name: base64.b64decode(text) for name, _, text in (p.partition("\n") for p in parts)
    }
    own, others = addresses(contents["/proc/kallsyms"])
    check(symbols(contents["/tmp/both.so"]), {**others, **own})
    check(symbols(contents["/tmp/modules.so"]), others)
    assert len(own) > 80_000
    assert len(others) > 100
    assert not complaints(log)
