# SPDX-License-Identifier: GPL-2.0-only
"""kbridge doctor: finds what is broken on a machine, by trying it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from kbridge import health
from kbridge.errors import KbridgeError
from kbridge.kernels import image as images
from kbridge.kernels import target


def findings(done: Any) -> dict[str, dict[str, str]]:
    """What --json says, by the names of the checks."""
    report = json.loads(done.stdout)
    found = {one["name"]: one for one in report["checks"]}
    assert list(found) == [check.name for check in health.CHECKS]
    bad = [one for one in found.values() if one["state"] == health.FAILED]
    assert report["ok"] == (not bad) == (done.returncode == 0)
    assert "Traceback" not in done.stderr
    for one in found.values():
        assert one["says"]
        assert "Error:" not in one["says"], "each failure that can be foreseen has words of its own"
        assert one["mend"] or one["state"] != health.FAILED
    return found


def test_all_is_well_here(kbridge) -> None:
    done = kbridge("doctor", "--json")
    assert done.returncode == 0, done.stdout
    found = findings(done)
    needed = [check.name for check in health.CHECKS if not check.extra]
    assert {found[name]["state"] for name in needed} == {health.OK}
    shown = kbridge("doctor")
    assert shown.returncode == 0
    for name in found:
        assert f" {name} " in shown.stdout
    assert "\x1b" not in shown.stdout
    quiet = kbridge("doctor", "-q")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")


# programs that are broken -> the check that says so, and a word of what mends it
BROKEN = {
    "qemu-system-x86_64": ("QEMU", "qemu-system-x86"),
    "gcc": ("compiler of apps", "apt-get install gcc"),
    "cpio": ("guest", "cpio"),
}


def test_broken_programs(kbridge, tmp_path: Path) -> None:
    for program in BROKEN:
        stand_in = tmp_path / program
        stand_in.write_text("#!/bin/sh\necho this one is broken >&2\nexit 3\n")
        stand_in.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = kbridge("doctor", "--json", env=environment)
    assert done.returncode == 1
    found = findings(done)
    for name, mend in BROKEN.values():
        assert found[name]["state"] == health.FAILED
        assert "this one is broken" in found[name]["says"]
        assert mend in found[name]["mend"]
    shown = kbridge("doctor", env=environment)
    assert shown.returncode == 1
    for name, _ in BROKEN.values():
        assert f"mend: {found[name]['mend']}\n" in shown.stdout
    assert shown.stderr.startswith("kbridge: error: what kbridge needs does not work here: ")


def test_missing_programs(kbridge, tmp_path: Path) -> None:
    """Nothing at all on PATH: one line each, and what comes after them is not tried."""
    done = kbridge("doctor", "--json", env={**os.environ, "PATH": str(tmp_path)})
    found = findings(done)
    assert found["compiler of apps"]["mend"].endswith("apt-get install gcc")
    assert found["QEMU"]["mend"].endswith("apt-get install qemu-system-x86")
    assert "gcc: not found" in found["compiler of apps"]["says"]


def test_a_compiler_of_two_words(kbridge) -> None:
    done = kbridge("doctor", "--json", "--kernel", "none", env={**os.environ, "CC": "env gcc"})
    assert findings(done)["compiler of apps"]["says"].startswith("env gcc ")


def test_without_scons(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the Debian package, which leaves it to Debian's own."""
    monkeypatch.setattr(health.importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(health.shutil, "which", lambda *_, **__: None)
    (check,) = [check for check in health.CHECKS if check.name == "SCons"]
    monkeypatch.setattr(health, "CHECKS", [check])
    (finding,) = health.examine()
    assert (finding.state, finding.mend) == (health.EXTRA, "apt-get install scons")


def test_no_headers(kbridge) -> None:
    done = kbridge("doctor", "--json", "--kernel", "6.1.0-none")
    found = findings(done)
    assert "apt-get install linux-headers-6.1.0-none" in found["kernel headers"]["mend"]
    for name in ("Kbuild", "kmod in C", "kmod in assembly", "join of kmods", "kernel symbols"):
        assert found[name]["state"] == health.UNTRIED
    assert found["QEMU"]["state"] == health.OK


@pytest.mark.parametrize(
    ("variable", "folder"),
    [
        ("KBRIDGE_CACHE", "/proc/nowhere"),
        ("HOME", "/proc/nowhere"),
        ("KBRIDGE_CACHE", "/proc/self"),
    ],
)
def test_cache_that_cannot_be_written(kbridge, variable: str, folder: str) -> None:
    unset = ("KBRIDGE_CACHE", "XDG_CACHE_HOME")
    environment = {name: text for name, text in os.environ.items() if name not in unset}
    done = kbridge("doctor", "--json", env={**environment, variable: folder})
    finding = findings(done)["cache"]
    assert finding["state"] == health.FAILED
    assert folder in finding["says"]
    assert "KBRIDGE_CACHE" in finding["mend"]


def test_image_that_is_not_here_yet(
    kernels: list[target.KernelTarget], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is fetched: it says from where it would be."""

    def none(release: str, *, download: bool) -> images.KernelImage:
        assert not download
        raise KbridgeError(f"no image of kernel {release}")

    def offered(release: str) -> tuple[str, str]:
        return f"linux-image-{release}", "1.2"

    monkeypatch.setattr(images, "find", none)
    monkeypatch.setattr(images, "obtainable", offered)
    names = ("kernel headers", "kernel image", "kernel symbols")
    chosen = tuple(check for check in health.CHECKS if check.name in names)
    monkeypatch.setattr(health, "CHECKS", chosen)
    release = kernels[0].release
    _, image, symbols = health.examine(release)
    assert image.state == health.OK
    assert f"the first build fetches linux-image-{release} 1.2" in image.says
    assert symbols.state == health.UNTRIED
