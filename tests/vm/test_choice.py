# SPDX-License-Identifier: GPL-2.0-only
"""A kmod uses one of several static functions of a name, chosen by its address, under KASLR."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from conftest import Kbridge
from guest_shell import LIBRARIES, build, console_log_environment
from kernel_log import complaints

from kbridge import options
from kbridge.kernels import image as images
from kbridge.kernels import target
from kbridge.symbols.table import Symbol, SymbolTable

KERNELS = [kernel.release for kernel in target.installed()] or ["none installed"]

KMOD = """\
#include <linux/module.h>
extern char {name}[];
long where(void);
long where(void) {{ return (long){name}; }}
"""
APP = """\
#include <stdio.h>
long where(void);
int main(void) {{ return printf("%s chose %lx\\n", "{name}", where()) < 0; }}
"""


def twice(table: SymbolTable) -> list[Symbol]:
    """Both definitions of some static function that the kernel has twice."""
    counts = Counter(one.name for one in table.symbols if one.type == "t")
    name = next(one for one in table.ambiguous() if counts[one] == 2 and one.isidentifier())
    return table.find(name)


@pytest.mark.parametrize("release", KERNELS)
def test_the_chosen_one_is_used(kbridge: Kbridge, release: str, tmp_path: Path) -> None:
    candidates = twice(images.symbols(release))
    name = candidates[0].name
    (tmp_path / "kmod.c").write_text(KMOD.format(name=name))
    (tmp_path / "app.c").write_text(APP.format(name=name))
    sources = (tmp_path / "app.c", tmp_path / "kmod.c")

    refused = kbridge("build", sources[0], "--kmod", sources[1], "-o", "x", "--kernel", release)
    assert refused.returncode == 1
    assert f"kmod.c:4: kernel {release} has 2 definitions of {name}" in refused.stderr
    assert f"--symbol {name}=ADDRESS" in refused.stderr

    programs = []
    for number, one in enumerate(candidates):
        for link in options.LINK_MODES:
            out = tmp_path / f"{link}-{number}"
            choice = f"{name}={one.address:#x}"
            build(kbridge, *sources, out, release, "--link", link, "--symbol", choice)
            programs.append(out)
    lines = [f"grep ' {name}$' /proc/kallsyms", *map(str, programs)]
    share = [word for file in (*LIBRARIES, *programs) for word in ("--file", f"{file}:{file}")]
    log = tmp_path / "console"
    how = ["--kernel", release, "--timeout", "120", *share]
    shell = ["/bin/busybox", "sh", "-ec", "\n".join(lines)]
    done = kbridge("run", *how, *shell, env=console_log_environment(log))
    assert done.returncode == 0, done.stdout + done.stderr
    running = re.findall(rf"^([0-9a-f]+) t {name}$", done.stdout, re.MULTILINE)
    assert len(running) == 2
    chosen = re.findall(rf"^{name} chose ([0-9a-f]+)$", done.stdout, re.MULTILINE)
    assert chosen == [address for address in running for _ in options.LINK_MODES]
    assert not complaints(log)
