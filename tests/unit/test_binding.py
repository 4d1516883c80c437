# SPDX-License-Identifier: GPL-2.0-only
"""kbridge.elevated() and kbridge.kernel against a stand-in for libkbridge.so."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import kbridge
from kbridge import binding, kernel, proc
from kbridge.errors import KbridgeError
from kbridge.symbols import kallsyms
from kbridge.symbols.table import Columns, SymbolTable

STAND_IN = """
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <kbridge.h>

int depth, refuse;
unsigned long words[7];

int kb_elevate(void)
{
        if (!refuse)
                return depth++, 0;
        errno = refuse;
        return -1;
}

int kb_lower(void)
{
        if (depth)
                return depth--, 0;
        errno = EINVAL;
        return -1;
}

int kb_is_elevated(void) { return depth > 0; }

unsigned long kb_symbol(const char *name)
{
        if (!strcmp(name, "ksys_write"))
                return 0xffffffff81000010;
        return strcmp(name, "cpu_number") ? 0 : 0x1fb18;
}

long kb_call(unsigned long function, ...)
{
        va_list list;

        words[0] = function;
        va_start(list, function);
        for (int n = 1; n < 7; n++)
                words[n] = va_arg(list, unsigned long);
        va_end(list);
        if (words[2] == 1)
                strcpy((char *)words[1], "written");
        if (words[2] == 2)
                return ((char *)words[1])[0];
        return -14;
}
"""
ROWS = [(0xFFFFFFFF81000000 + i, "t", n) for i, n in enumerate(("ksys_read", "init", "init"))]


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ctypes.CDLL]:
    source, library = tmp_path / "stand-in.c", tmp_path / "libkbridge.so"
    source.write_text(STAND_IN)
    runtime = Path(kbridge.__file__).parents[1] / "runtime"
    proc.run(["gcc", "-shared", "-fPIC", "-Wall", f"-I{runtime}", source, "-o", library])
    table = SymbolTable(
        Columns([row[0] for row in ROWS], "".join(r[1] for r in ROWS), [row[2] for row in ROWS]),
        release="6.0",
        build_id="",
        origin="test",
    )
    monkeypatch.setattr(binding, "LIBRARY", str(library))
    monkeypatch.setattr(kallsyms, "running", lambda **_: table)
    binding.library.cache_clear()
    yield binding.library()
    binding.library.cache_clear()


def words(library: ctypes.CDLL) -> list[int]:
    return list((ctypes.c_ulong * 7).in_dll(library, "words"))


def test_a_bracket(stand_in: ctypes.CDLL) -> None:
    assert not kbridge.is_elevated()
    with kbridge.elevated():
        assert kbridge.is_elevated()
        with kbridge.elevated():
            assert ctypes.c_int.in_dll(stand_in, "depth").value == 2
        assert kbridge.is_elevated()
    assert not kbridge.is_elevated()


@pytest.mark.usefixtures("stand_in")
def test_a_bracket_ends_where_its_body_fails() -> None:
    with pytest.raises(ZeroDivisionError), kbridge.elevated():
        raise ZeroDivisionError
    assert not kbridge.is_elevated()


def test_who_may_not_elevate(stand_in: ctypes.CDLL) -> None:
    ctypes.c_int.in_dll(stand_in, "refuse").value = 1
    with (
        pytest.raises(KbridgeError, match="cannot elevate: Operation not permitted") as problem,
        kbridge.elevated(),
    ):
        pytest.fail("the body ran")
    assert "CAP_SYS_MODULE" in str(problem.value.hint)


def test_lowered_by_other_means(stand_in: ctypes.CDLL) -> None:
    with pytest.raises(KbridgeError, match="cannot lower: Invalid argument"), kbridge.elevated():
        ctypes.c_int.in_dll(stand_in, "depth").value = 0


def test_lowered_by_a_body_that_fails(stand_in: ctypes.CDLL) -> None:
    """What it raised is not forgotten."""

    def body() -> None:
        with kbridge.elevated():
            ctypes.c_int.in_dll(stand_in, "depth").value = 0
            raise ZeroDivisionError

    with pytest.raises(KbridgeError) as problem:
        body()
    assert isinstance(problem.value.__context__, ZeroDivisionError)


def test_a_call(stand_in: ctypes.CDLL) -> None:
    write = kbridge.kernel.symbol("ksys_write")
    assert (write.name, write.address, hex(write)) == (
        *("ksys_write", 0xFFFFFFFF81000010),
        "0xffffffff81000010",
    )
    assert write(1, b"x", (1 << 64) - 2, -1, None, True) == -14
    seen = words(stand_in)
    assert seen[:2] == [write.address, 1]
    assert seen[3:] == [(1 << 64) - 2, (1 << 64) - 1, 0, 1]
    assert write(b"A", 2) == ord("A")
    assert write(ctypes.create_string_buffer(b"B"), 2) == ord("B")


@pytest.mark.usefixtures("stand_in")
def test_memory_that_the_kernel_writes() -> None:
    write = kbridge.kernel.symbol("ksys_write")
    for room in (bytearray(10), ctypes.create_string_buffer(10)):
        write(room, 1)
        assert bytes(room) == b"written\0\0\0"
    text = ctypes.create_string_buffer(10)
    write(ctypes.pointer(text), 1)
    assert text.value == b"written"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("text",), "str is no word"),
        ((1.5,), "float is no word"),
        ((1 << 64,), "does not fit in 64 bits"),
        ((-(1 << 63) - 1,), "does not fit in 64 bits"),
        (range(7), "7 words, 6 at most"),
    ],
)
def test_what_is_no_word(stand_in: ctypes.CDLL, given: tuple[object, ...], says: str) -> None:
    write = kbridge.kernel.symbol("ksys_write")
    with pytest.raises(KbridgeError, match=says):
        write(*given)  # type: ignore[arg-type]
    assert words(stand_in) == [0] * 7


@pytest.mark.usefixtures("stand_in")
def test_names_that_are_no_function() -> None:
    symbol = kbridge.kernel.symbol
    with pytest.raises(KbridgeError, match=r"kernel 6\.0 has no symbol ksys_reed") as problem:
        symbol("ksys_reed")
    assert problem.value.hint == "near: ksys_read"
    with pytest.raises(KbridgeError, match="2 definitions of init: ffffffff81000001 t") as problem:
        symbol("init")
    assert 'kbridge.kernel.Symbol("init", 0x' in str(problem.value.hint)
    with pytest.raises(KbridgeError, match="at 0x1fb18: a per-CPU variable"):
        symbol("cpu_number")()
    for name in ("", "ksys_write\0b", "ä", "\udc80"):
        with pytest.raises(KbridgeError, match="has no symbol"):
            symbol(name)


def test_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binding, "LIBRARY", str(tmp_path / "libkbridge.so"))
    binding.library.cache_clear()
    with pytest.raises(KbridgeError, match="cannot load libkbridge") as problem:
        kernel.symbol("ksys_write")
    assert "kbridge run" in str(problem.value.hint)


def test_importing_kbridge_is_cheap() -> None:
    code = (
        "import sys, kbridge; before = set(sys.modules); kbridge.kernel; kbridge.elevated\n"
        "print('ctypes' in before, 'kbridge.kernel' in before, 'ctypes' in sys.modules)\n"
        "try: kbridge.elevate\n"
        "except AttributeError as problem: print(problem)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert done == "False False True\nmodule 'kbridge' has no attribute 'elevate'\n"
