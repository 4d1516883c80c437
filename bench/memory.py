#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""The most memory that kbridge itself holds while it builds, compilers and linkers apart.

    .venv/bin/python bench/memory.py [--kernel RELEASE] [--files N] [--runs N]

The kmods are the largest sources of the list of in-tree modules; MiB, by VmHWM of proc(5).
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

from kbridge import options, paths, proc
from kbridge.kernels import target

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from intree import selection, sources  # noqa: E402

# Not getrusage(): its figure of a process also has what the process was before it called exec.
_MEASURED = """
import pathlib, sys
from kbridge.cli import main
status = main(sys.argv[2:])
pathlib.Path(sys.argv[1]).write_text(pathlib.Path("/proc/self/status").read_text())
sys.exit(status)
"""


def peak(folder: Path, source: Path, release: str, code: str) -> float:
    """VmHWM, in MiB, of the process that builds a library of the source."""
    kept = folder / "status"
    words: list[str | Path] = ["build", "--shared", "-q", "--kernel", release, "--code", code]
    words += ["--kmod", source, "-o", folder / "library.so"]
    proc.run([sys.executable, "-c", _MEASURED, kept, *words])
    lines = dict(line.split(":", 1) for line in kept.read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kernel", metavar="RELEASE")
    parser.add_argument("--files", type=int, default=5)
    parser.add_argument("--runs", type=int, default=3)
    wanted = parser.parse_args()
    kernel = target.find(wanted.kernel)
    tree = sources.tree(kernel.release)
    there = [tree / name for name in selection.read(selection.LIST) if (tree / name).is_file()]
    largest = sorted(there, key=lambda file: -file.stat().st_size)[: wanted.files]
    print(f"kernel {kernel.release}, {wanted.runs} runs each, MiB")
    with paths.scratch("kbridge-memory-") as folder:
        for code in options.CODE_MODELS:
            for source in largest:
                taken = [peak(folder, source, kernel.release, code) for _ in range(wanted.runs)]
                spread = f"({min(taken):.1f} to {max(taken):.1f})"
                name = f"{source.relative_to(tree)} {code}"
                print(f"{name:<44} median {statistics.median(taken):6.1f}  {spread}")


if __name__ == "__main__":
    main()
