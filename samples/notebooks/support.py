# SPDX-License-Identifier: GPL-2.0-only
"""What the notebooks share: the libraries, the kernel's symbols as a table, how plots look.

Not for what a notebook is about: that stands in its own cells.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # where no plot is drawn, nobody waits for these
    import pandas as pd

# Colours that people who see few of them can tell apart (Okabe and Ito).
BLUE, ORANGE, GREEN, RED = "#0072b2", "#e69f00", "#009e73", "#d55e00"
SKY, PINK, YELLOW = "#56b4e9", "#cc79a7", "#f0e442"
GREY, PALE = "#8a8a8a", "#e8e8e8"

MIB = 1 << 20


def folder() -> Path:
    """Where the libraries are."""
    return Path(os.environ.get("KB_NOTEBOOKS") or "../../build/notebooks").resolve()


def library(name: str) -> ctypes.CDLL:
    """One of those that `make -C samples/notebooks` builds."""
    file = folder() / f"lib{name}.so"
    if not file.is_file():
        raise FileNotFoundError(f"{file}: build it with: make -C samples/notebooks")
    return ctypes.CDLL(str(file))


def style() -> None:
    from matplotlib import pyplot as plt
    from matplotlib_inline.backend_inline import set_matplotlib_formats

    # drawn once, as it is: to find out how much room is empty is to draw everything twice
    set_matplotlib_formats("png", bbox_inches=None)
    plt.rcParams.update(
        {
            "figure.dpi": 110,
            "figure.constrained_layout.use": True,
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
        }
    )


def symbols() -> pd.DataFrame:
    """/proc/kallsyms, by address: letter, name, module ('' for the kernel itself)."""
    import pandas as pd

    with open("/proc/kallsyms") as file:
        rows = [line.replace("\t[", " ", 1).rstrip("]\n").split(" ") for line in file]
    columns = {
        "address": pd.Series([int(row[0], 16) for row in rows], dtype="uint64"),
        # plain objects: to make 170,000 pandas strings takes longer than all the rest
        "letter": pd.Series([row[1] for row in rows], dtype=object),
        "name": pd.Series([row[2] for row in rows], dtype=object),
        "module": pd.Series([row[3] if len(row) > 3 else "" for row in rows], dtype=object),
    }
    return pd.DataFrame(columns).sort_values("address", kind="stable", ignore_index=True)
