# SPDX-License-Identifier: GPL-2.0-only
"""What a kernel name stands for."""

from __future__ import annotations

from pathlib import Path

import pytest

from kbridge import imports, pack
from kbridge.errors import KbridgeError
from kbridge.symbols.table import Symbol, SymbolTable

TABLE = SymbolTable(
    [
        Symbol(0xFFFFFFFF81000000, "T", "exported"),
        Symbol(0xFFFFFFFF81000010, "t", "once_static"),
        Symbol(0xFFFFFFFF81000020, "t", "twice_static"),
        Symbol(0xFFFFFFFF81000030, "t", "twice_static"),
        Symbol(0xFFFFFFFF81000040, "t", "both"),
        Symbol(0xFFFFFFFF82000000, "D", "data"),
    ],
    "6.1",
    "ab" * 20,
    "test",
)
EXPORTS = {"of_module": "mod", "both": "mod", "twice_static": "mod2", "exported": "never"}


def bind(*names: str, weak: bool = False, exports: dict[str, str] | None = None) -> imports.Bound:
    image = pack.Image(imports=[pack.Import(name, weak, 0, 0) for name in names])
    return imports.bind(image, TABLE, EXPORTS if exports is None else exports, Path("none.o"))


def test_the_kernel_image_comes_first() -> None:
    bound = bind("exported", "data", "once_static")
    assert bound.addresses["exported"] == 0xFFFFFFFF81000000
    assert bound.functions == {"exported": True, "data": False, "once_static": True}
    assert not bound.modules


@pytest.mark.parametrize(
    ("name", "module"), [("of_module", "mod"), ("both", "mod"), ("twice_static", "mod2")]
)
def test_an_exported_symbol_is_meant_before_static_ones(name: str, module: str) -> None:
    bound = bind(name)
    assert bound.modules == {name: module}
    assert bound.addresses == {name: 0}


def test_weak_names_may_be_missing() -> None:
    bound = bind("nowhere", weak=True)
    assert bound.addresses == {"nowhere": 0}


@pytest.mark.parametrize(("name", "says"), [("nowhere", "no symbol"), ("twice_static", "2 def")])
def test_no_meaning_or_several_is_an_error(
    name: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "_locate", lambda *_: "kmod.c:7")
    with pytest.raises(KbridgeError, match=rf"kmod.c:7: .*{says}"):
        bind(name, exports={})
