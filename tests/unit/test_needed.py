# SPDX-License-Identifier: GPL-2.0-only
"""Files given to --only-needed that are no objects."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kbridge import needed
from kbridge.errors import KbridgeError, UsageError
from kbridge.symbols.table import SymbolTable

NOTHING = SymbolTable([], "6.1.0-test", "", "a test")


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # for whose other end it waited
    with pytest.raises(UsageError, match="not a regular file"):
        needed.names([tmp_path / "pipe"], NOTHING)
    with pytest.raises(KbridgeError, match="directory"):
        needed.names([tmp_path], NOTHING)
