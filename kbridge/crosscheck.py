# SPDX-License-Identifier: GPL-2.0-only
"""What other readers see in a written libkernel.so: readelf, pyelftools, LIEF and, where it is the
run-time file, ld.so itself.

Takes seconds, so it is for those who ask for it; readback.py is what is always done.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from kbridge import elf as elf_reader
from kbridge import interrupts, proc
from kbridge.elfwrite import Exports
from kbridge.errors import KbridgeError
from kbridge.readback import difference, wrong

# By name: type (FUNC, OBJECT), visibility, whether it is absolute, address; of a stub's symbols,
# whose places have no meaning, no address.
_Rows = dict[str, tuple[str, str, bool, int]]

_SHN_ABS = 0xFFF1

_LD_SO = """
import ctypes, sys
library = ctypes.CDLL(sys.argv[1])
dlvsym = ctypes.CDLL(None).dlvsym
dlvsym.restype = ctypes.c_void_p
handle, version = ctypes.c_void_p(library._handle), sys.argv[2].encode()
for name in sys.stdin.read().split():
    print(name, dlvsym(handle, name.encode(), version) or 0)
"""


def _expected(exports: Exports, absolute: bool) -> _Rows:
    visibility = "DEFAULT" if absolute else "PROTECTED"
    rows = zip(exports.names, exports.values, exports.functions, strict=True)
    return {
        name: ("FUNC" if function else "OBJECT", visibility, absolute, value if absolute else 0)
        for name, value, function in rows
    }


def _by_readelf(file: Path, version: str, absolute: bool) -> _Rows:
    line = re.compile(
        r"^ *\d+: ([0-9a-f]{16}) +0 (FUNC|OBJECT) +GLOBAL (DEFAULT|PROTECTED) +(ABS|\d+) "
        rf"([!-?A-~]+)@{version}(?: \(\d+\))?$",
        re.MULTILINE,
    )
    listed = proc.run(["readelf", "-W", "--dyn-syms", file], what="reading libkernel.so back")
    rows = line.findall(listed.stdout)
    count = re.search(r"^Symbol table '\.dynsym' contains (\d+) entr", listed.stdout, re.MULTILINE)
    if count is None or int(count[1]) != len(rows) + 1:
        raise wrong(f"to readelf {len(rows)} of {count[1] if count else 'no'} symbols are good")
    return {
        name: (type_, visibility, section == "ABS", int(value, 16) if absolute else 0)
        for value, type_, visibility, section, name in rows
    }


def _by_pyelftools(file: Path, version: str, absolute: bool) -> _Rows:
    from elftools.elf.elffile import ELFFile

    found: _Rows = {}
    with file.open("rb") as stream:
        elf = ELFFile(stream)
        symbols, versions, definitions = (
            elf_reader.section(elf, name) for name in (".dynsym", ".gnu.version", ".gnu.version_d")
        )
        named = {
            one["vd_ndx"]: [aux.name for aux in aux_] for one, aux_ in definitions.iter_versions()
        }
        for index, one in enumerate(symbols.iter_symbols()):
            number = versions.get_symbol(index)["ndx"]
            hidden = isinstance(number, int) and number >> 15
            if not index or not hidden or named.get(number & 0x7FFF) != [version]:
                continue
            type_, visibility = one["st_info"]["type"][4:], one["st_other"]["visibility"][4:]
            is_absolute = one["st_shndx"] == "SHN_ABS"
            value = one["st_value"] if absolute else 0
            found[one.name] = (type_, visibility, is_absolute, value)
    return found


def _by_lief(file: Path, version: str, absolute: bool) -> _Rows:
    with interrupts.held():
        import lief

    binary = lief.ELF.parse(str(file))
    if binary is None:
        raise wrong("LIEF cannot read it")
    found: _Rows = {}
    for one in list(binary.dynamic_symbols)[1:]:
        own = one.symbol_version
        aux = own.symbol_version_auxiliary if own else None
        if aux is not None and aux.name == version:
            type_, visibility = one.type.name, one.visibility.name
            is_absolute = one.shndx == _SHN_ABS
            found[str(one.name)] = (type_, visibility, is_absolute, one.value if absolute else 0)
    return found


def _by_ld_so(file: Path, names: Iterable[str], version: str) -> dict[str, int]:
    result = proc.run(
        [sys.executable, "-I", "-c", _LD_SO, file.absolute(), version],
        what="asking ld.so for every symbol of libkernel.so",
        input="\n".join(names),
    )
    pairs: Iterable[list[str]] = map(str.split, result.stdout.splitlines())
    return {name: int(value) for name, value in pairs}


_Reader = Callable[[Path, str, bool], _Rows]
_READERS: dict[str, _Reader] = {"readelf": _by_readelf, "pyelftools": _by_pyelftools}
# LIEF counts symbols by the hash table, which a stub does not have.
_RUNTIME_READERS: dict[str, _Reader] = {**_READERS, "LIEF": _by_lief}


def check(file: Path, exports: Exports, *, version: str, absolute: bool) -> None:
    """Raise KbridgeError, which names the reader, unless all see just these symbols."""
    expected = _expected(exports, absolute)
    for reader, read in (_RUNTIME_READERS if absolute else _READERS).items():
        try:
            found = read(file, version, absolute)
        except KbridgeError:
            raise
        except Exception as problem:  # whatever damage leads a reader to
            raise wrong(f"to {reader}: {problem}") from problem
        if found != expected:
            raise wrong(f"to {reader} {difference(found, expected)}")
    if absolute:
        seen = _by_ld_so(file, exports.names, version)
        addresses = dict(zip(exports.names, exports.values, strict=True))
        if seen != addresses:
            raise wrong(f"to ld.so {difference(seen, addresses)}")
