# SPDX-License-Identifier: GPL-2.0-only
"""kbridge symbols on small tables: what is chosen, how it is shown, what is refused."""

from __future__ import annotations

import json

import pytest

from kbridge import cli
from kbridge.errors import KbridgeError, UsageError
from kbridge.inspect.kernel import Kernel
from kbridge.kernels.headers import Export
from kbridge.symbols.table import AmbiguousSymbol, Symbol, SymbolTable, UnknownSymbol
from kbridge.verbs import symbols as verb

TEXT = 0xFFFFFFFF81000000
ROWS = (
    (0, "A", "__per_cpu_start"),
    (0x400, "A", "pcpu_hot"),
    (0x1000, "A", "__per_cpu_end"),
    (TEXT, "T", "vfs_read"),
    (TEXT + 0x10, "t", "show"),
    (TEXT + 0x20, "t", "show"),
    (TEXT + 0x30, "t", "user_read"),
    (TEXT + 0x40, "T", "user_read"),
    (TEXT + 0x50, "d", "vfs[0]"),
    (TEXT + 0x60, "W", "vfs_write"),
)
EXPORTS = {
    "vfs_read": Export("vmlinux", gpl_only=False, namespace="VFS"),
    "user_read": Export("vmlinux", gpl_only=True, namespace=""),
    "pcpu_hot": Export("vmlinux", gpl_only=False, namespace=""),
    "vfs_write": Export("other", gpl_only=False, namespace=""),
}
TABLE = SymbolTable([Symbol(*row) for row in ROWS], "6.1.0-test", "ab" * 20, "a test")
KERNEL = Kernel("6.1.0-test", exports=EXPORTS)


def names(pattern: str | None, *, every: bool = False) -> list[str]:
    return [one.name for one in verb.select(TABLE, pattern, every=every)]


def test_without_a_pattern_what_a_kmod_can_be_linked_against() -> None:
    found = verb.select(TABLE, None, every=False)
    assert sorted(found) == sorted(TABLE.resolvable())
    assert [one.address for one in found] == sorted(one.address for one in found)
    # its names once, the ambiguous not at all, and the linker script's name for pcpu_hot
    listed = [one.name for one in found]
    assert listed.count("user_read") == listed.count("const_pcpu_hot") == 1
    assert "show" not in listed


def test_all_is_every_line_in_its_order() -> None:
    assert verb.select(TABLE, None, every=True) == list(TABLE.symbols)


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ("vfs_*", ["vfs_read", "vfs_write"]),
        ("vfs_rea?", ["vfs_read"]),
        ("[u-v]*_read", ["vfs_read", "user_read"]),
        ("vfs[[]0]", ["vfs[0]"]),
        ("vfs_read", ["vfs_read"]),
        ("const_pcpu_hot", ["const_pcpu_hot"]),
    ],
)
def test_patterns(pattern: str, matches: list[str]) -> None:
    assert names(pattern) == matches


def test_the_global_definition_is_meant_and_all_shows_both() -> None:
    assert [one.type for one in verb.select(TABLE, "user_read", every=False)] == ["T"]
    assert [one.type for one in verb.select(TABLE, "user_read", every=True)] == ["t", "T"]
    assert names("show", every=True) == ["show", "show"]


def test_a_name_of_several_meanings() -> None:
    with pytest.raises(KbridgeError, match="2 definitions of show") as caught:
        names("show")
    assert not isinstance(caught.value, AmbiguousSymbol)  # whose hint is for kmod sources
    assert "--all" in (caught.value.hint or "")
    with pytest.raises(KbridgeError, match=r"2 symbols match sho\*") as caught:
        names("sho*")
    assert "--all" in (caught.value.hint or "")


@pytest.mark.parametrize("every", [False, True])
def test_nothing_found_names_what_is_near(every: bool) -> None:
    with pytest.raises(UnknownSymbol) as unknown:
        names("vfs_raed", every=every)
    assert "vfs_read" in unknown.value.near
    for pattern in ("VFS_READ", "Vfs_*", "vfs_reed*", "[", "*["):  # case counts
        with pytest.raises(KbridgeError, match="has no symbol") as caught:
            names(pattern, every=every)
        assert caught.value.status == 1
        assert caught.value.hint
    with pytest.raises(KbridgeError) as caught:
        names("vfs_reed*", every=every)
    assert "vfs_read" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "pattern", ["", "vfs read", "\xe9t\xe9", "a\nb", "\x1b[2J", "\udcff", "a" * 600]
)
def test_what_is_no_pattern(pattern: str) -> None:
    with pytest.raises(UsageError) as caught:
        names(pattern)
    assert caught.value.message.isprintable()
    assert caught.value.hint


def test_a_pattern_of_many_stars_takes_no_time() -> None:
    many = SymbolTable([Symbol(TEXT, "T", "a" * 500)], "6.1.0-test", "", "a test")
    with pytest.raises(KbridgeError):
        verb.select(many, "*a" * 50 + "b", every=True)


def test_table() -> None:
    assert verb.text(verb.select(TABLE, "*", every=True), KERNEL, TABLE).splitlines() == [
        "0000000000000000 A per-CPU   -         __per_cpu_start",
        "0000000000000400 A per-CPU   exported  pcpu_hot",
        "0000000000001000 A data      -         __per_cpu_end",
        "ffffffff81000000 T function  exported  vfs_read",
        "ffffffff81000010 t function  -         show",
        "ffffffff81000020 t function  -         show",
        "ffffffff81000030 t function  -         user_read",
        "ffffffff81000040 T function  GPL-only  user_read",
        "ffffffff81000050 d data      -         vfs[0]",
        "ffffffff81000060 W function  -         vfs_write",
    ]
    alias = verb.text(verb.select(TABLE, "const_pcpu_hot", every=False), KERNEL, TABLE)
    assert alias == "0000000000000400 A per-CPU   exported  const_pcpu_hot\n"
    unknown = verb.text(verb.select(TABLE, "vfs_read", every=False), Kernel(), TABLE)
    assert unknown == "ffffffff81000000 T function  ?         vfs_read\n"


def test_per_cpu_variables_without_the_symbols_around_them() -> None:
    bare = SymbolTable([Symbol(0x400, "A", "x"), Symbol(TEXT, "D", "y")], "", "", "")
    lines = verb.text(bare.symbols, Kernel(), bare).splitlines()
    assert [line.split()[2] for line in lines] == ["per-CPU", "data"]


def test_kallsyms() -> None:
    assert verb.kallsyms(TABLE.symbols) == "".join(
        f"{address:016x} {letter} {name}\n" for address, letter, name in ROWS
    )


def test_json() -> None:
    found = json.loads(verb.as_json(TABLE.symbols, KERNEL, TABLE))
    assert [(int(one["address"], 16), one["letter"], one["name"]) for one in found] == list(ROWS)
    assert found[3] == {
        "name": "vfs_read",
        "address": "0xffffffff81000000",
        "letter": "T",
        "type": "function",
        "exported": True,
        "gpl_only": False,
        "namespace": "VFS",
        "linkable": True,
    }
    both = [one for one in found if one["name"] == "user_read"]
    assert [(one["exported"], one["gpl_only"], one["linkable"]) for one in both] == [
        (False, False, False),
        (True, True, True),
    ]
    assert not any(one["linkable"] for one in found if one["name"] == "show")
    unknown = json.loads(verb.as_json(TABLE.symbols, Kernel(), TABLE))
    assert {one["exported"] for one in unknown} == {None}


@pytest.mark.parametrize(
    ("argv", "status", "says"),
    [
        (["--format", "tables"], 2, "did you mean table?"),
        (["--format", "kallsym"], 2, "did you mean kallsyms?"),
        (["--formt", "json"], 2, "did you mean --format?"),
        (["a b"], 2, "no kernel symbol has such characters"),
        (["--kernel", "../../etc"], 2, "no headers for kernel ../../etc"),
        (["--kdir", "/nowhere"], 2, "/nowhere: no such kernel header folder"),
    ],
)
def test_bad_words(
    argv: list[str], status: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["symbols", *argv]) == status
    out, err = capsys.readouterr()
    assert not out
    assert says in err
    assert "Traceback" not in err
