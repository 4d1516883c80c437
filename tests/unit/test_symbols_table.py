# SPDX-License-Identifier: GPL-2.0-only
"""Names become addresses by the rules of SymbolTable, and stored tables come back the same."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kbridge.errors import KbridgeError
from kbridge.symbols import choice, store
from kbridge.symbols.table import AmbiguousSymbol, Symbol, SymbolTable, UnknownSymbol

TEXT = 0xFFFFFFFF81000000

symbols = st.lists(
    st.builds(
        Symbol,
        st.integers(0, (1 << 64) - 1),
        st.sampled_from("AbBdDrRtTVW"),
        st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=30),
    ),
    max_size=40,
)


def table(*rows: tuple[int, str, str]) -> SymbolTable:
    return SymbolTable([Symbol(*row) for row in rows], "6.1.0-test", "ab" * 20, "a test")


def test_the_only_definition() -> None:
    assert table((TEXT, "t", "one"), (TEXT + 8, "T", "two")).resolve("one").address == TEXT


def test_unknown_has_near_matches() -> None:
    kernel = table(*((TEXT, "T", name) for name in ("vprintk", "_printk", "schedule", "kfree")))
    with pytest.raises(UnknownSymbol, match=r"6\.1\.0-test has no symbol printk") as caught:
        kernel.resolve("printk")
    assert isinstance(caught.value, KbridgeError)
    assert set(caught.value.near) == {"_printk", "vprintk"}
    assert "_printk" in (caught.value.hint or "")


def test_ambiguous_lists_candidates() -> None:
    kernel = table((TEXT, "t", "show"), (TEXT + 0x10, "t", "show"), (TEXT + 0x20, "d", "show"))
    with pytest.raises(AmbiguousSymbol) as caught:
        kernel.resolve("show")
    assert caught.value.candidates == kernel.find("show")
    for text in ("3 definitions of show", "ffffffff81000010 t", "ffffffff81000020 d"):
        assert text in caught.value.message


def test_many_candidates_are_counted() -> None:
    kernel = table(*((TEXT + 8 * i, "t", "show") for i in range(100)))
    with pytest.raises(AmbiguousSymbol, match="and 88 more"):
        kernel.resolve("show")


def test_the_only_global_definition_wins() -> None:
    kernel = table((TEXT, "t", "x"), (TEXT + 8, "T", "x"), (TEXT + 16, "d", "x"), (64, "A", "x"))
    assert kernel.resolve("x") == Symbol(TEXT + 8, "T", "x")


@pytest.mark.parametrize("types", ["At", "AA", "TT", "TD"])
def test_type_a_and_two_globals_decide_nothing(types: str) -> None:
    kernel = table(*((TEXT + 8 * i, letter, "x") for i, letter in enumerate(types)))
    with pytest.raises(AmbiguousSymbol):
        kernel.resolve("x")


def test_the_same_address_twice_is_one_definition() -> None:
    assert table((TEXT, "t", "x"), (TEXT, "t", "x")).resolve("x").address == TEXT


def test_linker_alias() -> None:
    assert table((0x35000, "A", "pcpu_hot")).resolve("const_pcpu_hot").address == 0x35000
    with pytest.raises(UnknownSymbol):
        table((0x35000, "A", "current_task")).resolve("const_pcpu_hot")


def test_a_chosen_alias_is_among_what_can_be_linked() -> None:
    """Of two pcpu_hot one was chosen for const_pcpu_hot, and then it was in no libkernel.so."""
    kernel = table((0x35000, "A", "pcpu_hot"), (0x36000, "A", "pcpu_hot"))
    assert list(kernel.resolvable()) == []
    chosen = choice.choose(kernel, ["const_pcpu_hot=0x36000"], None)
    assert list(chosen.resolvable()) == [chosen.resolve("const_pcpu_hot")]


@given(symbols)
def test_resolvable_is_what_resolve_accepts(rows: list[Symbol]) -> None:
    kernel = table(*rows)
    accepted = {one.name: one for one in kernel.resolvable()}
    for name in {row.name for row in rows}:
        try:
            assert kernel.resolve(name) == accepted[name]
        except AmbiguousSymbol:
            assert name not in accepted


def test_an_alias_of_the_linker_is_near() -> None:
    assert table((0x35000, "A", "pcpu_hot")).near("const_pcpu_hut")[0] == "const_pcpu_hot"
    assert table((0x35000, "A", "current_task")).near("const_pcpu_hut") == []


def test_near_is_fast_in_a_whole_kernel() -> None:
    words = ("get", "set", "task", "page", "irq", "alloc", "free", "queue", "device", "sched")
    source = random.Random(1)
    names = {"_".join(source.choices(words, k=source.randint(2, 5))) for _ in range(120_000)}
    kernel = table(*((TEXT, "t", f"{name}_{i}") for i, name in enumerate(names)))
    kernel.find("")  # the index is made once, with whatever look-up is the first
    started = time.process_time()
    kernel.near("sched_alloc_pagee_free")
    assert time.process_time() - started < 1.5  # 0.1 s; a wide limit for a loaded machine


@given(symbols)
def test_store_round_trip(rows: list[Symbol]) -> None:
    kernel = table(*rows)
    assert store.load(store.dump(kernel)) == kernel


@given(symbols, st.sampled_from(["x", "zz", "const_pcpu_hot", "pcpu_hot", "\u00e9"]))
@example([Symbol(0, "A", "?")], "\u00e9")
@example([Symbol(0, "A", "?")], "\udce9")
def test_stored_tables_find_the_same(rows: list[Symbol], other: str) -> None:
    rows = [*rows, *rows[:3], Symbol(8, "A", "pcpu_hot")]
    kernel = table(*rows)
    stored = store.load(store.dump(kernel))
    assert stored is not None
    for name in {one.name for one in rows} | {other}:
        assert stored.find(name) == kernel.find(name)
    assert list(stored.symbols[1:-1]) == list(kernel.symbols[1:-1])


def test_a_stored_table_of_nothing_finds_nothing() -> None:
    stored = store.load(store.dump(table()))
    assert stored is not None
    assert stored.find("x") == []  # it had no index at all


@given(symbols, st.integers(0), st.integers(0, 255))
def test_damaged_store_is_no_table(rows: list[Symbol], place: int, value: int) -> None:
    data = bytearray(store.dump(table(*rows)))
    place %= len(data)
    changed = data[place] != value
    data[place] = value
    assert (store.load(bytes(data)) is None) == changed
    assert store.load(bytes(data[:place])) is None


@given(st.binary(max_size=200))
def test_any_bytes_are_no_stored_table(data: bytes) -> None:
    assert store.load(data) is None


@given(symbols)
def test_digest_tells_tables_apart(rows: list[Symbol]) -> None:
    kernel = table(*rows)
    assert kernel.digest() == table(*rows).digest()
    assert kernel.digest() != table(*rows, (TEXT, "T", "another")).digest()
