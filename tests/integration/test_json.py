# SPDX-License-Identifier: GPL-2.0-only
"""--json of every verb that says something: JSON and nothing else, and the same as the text."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from kbridge import options
from kbridge.kernels import target

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "samples/fd_info"
# tests of their own look at these
ELSEWHERE = {"inspect", "kernels", "symbol", "adaptors", "doctor"}
# these run PROG, or write files of which there are standards
SILENT = {
    *("run", "elevate", "pic", "pack", "link", "compile-commands", "new"),
    *("man", "completion", "containerfile"),
}


def test_verbs_that_say_something_say_it_in_json(
    kbridge, kernels: list[target.KernelTarget], tmp_path: Path
) -> None:
    release = kernels[0].release
    seen: set[str] = set()

    def ask(*words: str | Path, text: bool = True) -> tuple[Any, str]:
        seen.add(str(words[0]))
        done = kbridge(*words, "--json")
        assert done.returncode == 0, done.stderr
        plain = kbridge(*words).stdout if text else ""
        return json.loads(done.stdout), plain.rstrip("\n")

    for verb in ("cflags", "libs"):
        found, plain = ask(verb, "--kernel", release)
        assert found == shlex.split(plain)
        assert len(found) > 2
    found, plain = ask("kelevate", "--kernel", release)
    assert found == {"module": plain, "kernel": release}
    found, plain = ask("pkg-config-path")
    assert found == {"folders": [plain]}
    found, plain = ask("cmake-dir")
    assert found == {"folder": plain}
    found, _ = ask("libs", "--kernel", release, "-o", tmp_path / "words", text=False)
    assert found == {"output": str(tmp_path / "words")}

    program = tmp_path / "fd_info"
    sources = [SAMPLE / "fd_info.c", "--kmod", SAMPLE / "fd_info_kmod.c"]
    found, _ = ask("build", "-g", *sources, "--kernel", release, "-o", program, text=False)
    assert found == {
        "output": str(program),
        "debug": f"{program}.kmod.debug",
        "kernel": release,
    }
    library = tmp_path / "libkernel.so"
    needed = ["--only-needed", program]
    found, _ = ask("gen-libkernel", "--kernel", release, *needed, "-o", library, text=False)
    for name in ("output", "stub", "link_folder"):
        assert Path(found[name]).exists()
    assert found["kernel"] == release
    assert 0 < found["symbols"] < 100
    assert len(found["build_id"]) == 40

    found, _ = ask("symbols", "--kernel", release, "vfs_*", text=False)
    also = kbridge("symbols", "--kernel", release, "--format", "json", "vfs_*")
    assert found == json.loads(also.stdout)

    reporting = next(one.verbs for one in options.OPTIONS if one.name == "json")
    assert seen | ELSEWHERE == set(reporting)
    assert set(reporting) | SILENT == {verb.name for verb in options.VERBS}
