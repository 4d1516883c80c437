# SPDX-License-Identifier: GPL-2.0-only
"""Draws the growth of gen-libkernel as SVG: plot.py RESULTS.json OUTPUT.

Runs under the Python that has matplotlib, which is the benchmark's tool and not kbridge's; so
nothing of kbridge is imported here.
"""

import json
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot

RESULTS, OUTPUT = map(Path, sys.argv[1:])


def main() -> None:
    found = json.loads(RESULTS.read_text())
    # the same numbers give the same bytes, and letters stay letters
    mpl.rcParams.update({"svg.hashsalt": "kbridge", "svg.fonttype": "none", "font.size": 9})
    figure, axes = pyplot.subplots(1, 2, figsize=(8.6, 3.7), layout="constrained")
    for axis, panel in zip(axes, found["panels"], strict=True):
        for curve in panel["curves"]:
            axis.loglog(found["counts"], curve["values"], curve["style"], label=curve["name"])
        ends = [found["counts"][0], found["counts"][-1]]
        last = panel["curves"][0]["values"][-1]
        slope = [last * count / ends[1] for count in ends]
        axis.loglog(ends, slope, color="0.5", linestyle=":", label="slope 1: in proportion")
        axis.set_ylim(bottom=0.5 * min(min(curve["values"]) for curve in panel["curves"]))
        axis.set_xlabel("symbols")
        axis.set_ylabel(panel["unit"])
        axis.set_title(panel["title"], fontsize=10)
        axis.grid(True, which="major", color="0.85")
        axis.legend(frameon=False, fontsize=8)
    figure.savefig(OUTPUT, metadata={"Date": None, "Creator": None})
    # matplotlib leaves blanks at the ends of lines
    lines = OUTPUT.read_text().splitlines()
    OUTPUT.write_text("\n".join(line.rstrip() for line in lines) + "\n")


if __name__ == "__main__":
    main()
