# SPDX-License-Identifier: GPL-2.0-only
"""What is asked of /dev/kelevate for whole programs: as the header has it, and the docs."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from kbridge import elevation, paths
from kbridge.errors import KbridgeError, UsageError
from kbridge.verbs import elevate

ROOT = Path(__file__).parents[2]
SOURCE = paths.source("kernel", "kelevate")

PROBE = """\
#include <stdio.h>
#include <kelevate.h>
int main(void)
{
    printf("%lu %lu ", KELEVATE_ELEVATE, KELEVATE_COUNT);
    printf("%zu %zu", sizeof(struct kelevate_elevation), sizeof(struct kelevate_counts));
}
"""


def test_numbers_and_sizes_are_the_header_s(tmp_path: Path) -> None:
    source = tmp_path / "probe.c"
    source.write_text(PROBE)
    subprocess.run(["gcc", f"-I{SOURCE}", "-o", tmp_path / "probe", source], check=True)
    said = subprocess.run([tmp_path / "probe"], capture_output=True, text=True, check=True).stdout
    sizes = (elevation._ELEVATION.size, elevation._COUNTS.size)
    assert [*map(int, said.split())] == [elevation._ELEVATE, elevation._COUNT, *sizes]


def test_adaptors_are_the_header_s() -> None:
    text = (SOURCE / "kelevate.h").read_text()
    listed = re.findall(r"^#define KELEVATE_ADAPT_(\w+) \(1u << (\d+)\)", text, re.MULTILINE)
    known = [(adaptor.name.upper(), str(adaptor.bit)) for adaptor in elevation.ADAPTORS]
    assert known == listed
    for adaptor in elevation.ADAPTORS:
        assert f"Adaptor {adaptor.name}:" in (SOURCE / adaptor.source).read_text()


def test_every_adaptor_is_documented() -> None:
    text = (ROOT / "docs/whole-process.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", text, re.MULTILINE)
    assert rows == [(adaptor.name, adaptor.does) for adaptor in elevation.ADAPTORS]
    shown = elevate.adaptors(as_json=False)
    objects = json.loads(elevate.adaptors(as_json=True))
    for adaptor, one in zip(elevation.ADAPTORS, objects, strict=True):
        assert adaptor.without in shown
        assert one["name"] == adaptor.name


def test_plans() -> None:
    assert elevation.plan(False, []) == elevation.Plan(1, 0)
    assert elevation.plan(True, ["smep", "smap"]) == elevation.Plan(3, 0b11000)
    with pytest.raises(UsageError) as caught:
        elevation.plan(False, ["smepp"])
    assert caught.value.hint == "did you mean smep?"
    with pytest.raises(UsageError) as caught:
        elevation.plan(False, ["zzz"])
    assert caught.value.hint == "kbridge adaptors lists them"


@pytest.mark.parametrize("modules", [True, False])
def test_what_to_do_without_kelevate(
    modules: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elevation, "DEVICE", str(tmp_path / "kelevate"))
    monkeypatch.setattr(elevation, "_MODULES_DISABLED", tmp_path / "modules_disabled")
    if modules:
        (tmp_path / "modules_disabled").touch()
    with pytest.raises(KbridgeError, match="is not there") as caught:
        elevation.open_device()
    assert ("insmod" in str(caught.value.hint)) == modules
    assert ("kbridge run --elevate" in str(caught.value.hint)) != modules


@pytest.mark.parametrize(
    ("counts", "share"),
    [
        (elevation.Counts(0, 0, 3, 1), "user code: 0, none in ring 0"),
        (elevation.Counts(3, 1, 9, 2), "user code: 4, 75.0 % in ring 0"),
    ],
)
def test_counts(counts: elevation.Counts, share: str) -> None:
    assert share in str(counts)
    packed = b"".join(
        number.to_bytes(8, "little")
        for number in (counts.ring0, counts.ring3, counts.kernel, counts.threads)
    )
    assert elevation.Counts.unpack(packed) == counts
