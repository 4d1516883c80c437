#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Tries every fault that kernel code can make, in virtual machines, and says what became of each.

    .venv/bin/python bench/faults.py                               on every kernel here
    .venv/bin/python bench/faults.py --markdown docs/faults.md

tests/faults has the faults and what they are expected to come to; the exit status is 1 where
something else was seen.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import entry

from kbridge import paths
from kbridge.errors import KbridgeError

sys.path.insert(0, str(entry.ROOT / "tests"))

from faults import boots, report


def _run(argv: Sequence[str]) -> None:
    how = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=how)
    parser.add_argument("--kernel", action="append", metavar="RELEASE", help="may be given again")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the page there")
    wanted = parser.parse_args(argv)
    releases = [kernel.release for kernel in entry.kernels(wanted.kernel)]
    with paths.scratch("kbridge-faults-") as folder:
        rows = [row for name in releases for row in boots.all_of(name, folder / name)]
    print(report.table(report.merged(rows)))
    if wanted.markdown:
        text = report.markdown(rows, entry.command(__file__, argv))
        entry.write_page(wanted.markdown, text)
    wrong = [line for row in rows for line in row.expected()]
    if wrong:
        raise KbridgeError("\n".join(["not as expected:", *wrong]))


if __name__ == "__main__":
    sys.exit(entry.main(_run))
