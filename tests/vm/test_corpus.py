# SPDX-License-Identifier: GPL-2.0-only
"""Modules of the kernel's own tree, unchanged: every one builds, and runs as a program.

All of it is slow: the sources are packages of 140 MB.  docs/corpus.md shows what is tested here.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from intree import attempts, programs, selection, sources

from kbridge import options
from kbridge.kernels import target

KERNELS = [kernel.release for kernel in target.installed()] or ["none installed"]
AT_ONCE = 2
CALLED = 60  # of 110: the others have no module_init(), or are gone from newer kernels


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("code", options.CODE_MODELS)
@pytest.mark.parametrize("release", KERNELS)
def test_in_tree_modules_build_and_run(tmp_path: Path, release: str, code: str) -> None:
    kernel, tree = target.find(release), sources.tree(release)
    there = [name for name in selection.read(selection.LIST) if (tree / name).is_file()]
    assert len(there) >= 100
    with ThreadPoolExecutor(AT_ONCE) as pool:
        built = list(
            pool.map(lambda name: attempts.kbridge(tree, name, kernel, code, tmp_path), there)
        )
    refused = {one.source: one.error for one in built if one.error}
    assert not refused
    runs = programs.run(release, built, tmp_path)
    assert set(runs.results) == set(there)
    assert not runs.complaints
    odd = {name: said for name, said in runs.results.items() if not programs.is_orderly(said)}
    assert not odd
    assert runs.called() >= CALLED
