# SPDX-License-Identifier: GPL-2.0-only
"""The symbols of one kernel and the rules by which a name becomes an address.

Not for reading them from anywhere (image.py, kallsyms.py), nor for writing them (libkernel.py).
"""

from __future__ import annotations

import difflib
import hashlib
import heapq
import itertools
import operator
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, Protocol, overload, runtime_checkable

from kbridge.errors import KbridgeError

# Names that the kernel's linker script defines and kallsyms does not list, with the symbol they
# stand for.  Source: arch/x86/kernel/vmlinux.lds.S, PROVIDE(const_pcpu_hot = pcpu_hot), 6.12.
LINKER_ALIASES = {"const_pcpu_hot": "pcpu_hot"}

# Source: KSYM_NAME_LEN in include/linux/kallsyms.h, with its NUL; 128 before Linux commit
# b8a94bfb3395 ("kallsyms: increase maximum kernel symbol length to 512", v6.1).
LONGEST_NAME = 511

_FUNCTION_TYPES = frozenset("tTwW")
_CANDIDATES_SHOWN = 12
_NEAR_BY_PAIRS = 150  # names that go through difflib, which needs some 30 us for each


class Symbol(NamedTuple):
    """One line of kallsyms: `type` is its letter, as `nm` prints it."""

    address: int
    type: str
    name: str

    @property
    def is_function(self) -> bool:
        """Whether the symbol is text; weak symbols (w, W) are, weak objects are v and V."""
        return self.type in _FUNCTION_TYPES


@dataclass(frozen=True)
class Columns(Sequence[Symbol]):
    """Symbols as three parallel columns: much less work than an object for each."""

    addresses: Sequence[int]
    types: str  # a letter each
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Symbol: ...
    @overload
    def __getitem__(self, index: slice) -> Columns: ...
    def __getitem__(self, index: int | slice) -> Symbol | Columns:
        if isinstance(index, slice):
            return Columns(self.addresses[index], self.types[index], self.names[index])
        return Symbol(self.addresses[index], self.types[index], self.names[index])

    def __iter__(self) -> Iterator[Symbol]:
        # many at once: faster than Symbol(...) for each
        return map(Symbol._make, zip(self.addresses, self.types, self.names, strict=True))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    @classmethod
    def of(cls, symbols: Sequence[Symbol]) -> Columns:
        """The columns of any sequence of symbols."""
        if isinstance(symbols, Columnar):
            return symbols.columns()
        return cls(
            [one.address for one in symbols],
            "".join([one.type for one in symbols]),
            [one.name for one in symbols],
        )

    def columns(self) -> Columns:
        return self

    def at(self, indexes: Sequence[int]) -> Columns:
        """The symbols with those indexes, in that order."""
        return Columns(
            list(map(self.addresses.__getitem__, indexes)),
            "".join(map(self.types.__getitem__, indexes)),
            list(map(self.names.__getitem__, indexes)),
        )

    def are_functions(self) -> list[bool]:
        """For each symbol whether it is text, as Symbol.is_function."""
        return [letter in _FUNCTION_TYPES for letter in self.types]


@runtime_checkable
class Columnar(Protocol):
    """Symbols that are kept in columns."""

    def columns(self) -> Columns: ...


@runtime_checkable
class Named(Protocol):
    """Symbols that can be asked for by name, faster than by looking at all of them."""

    def named(self, name: str) -> list[Symbol]: ...


class UnknownSymbol(KbridgeError):  # noqa: N818, named for what it reports
    """No symbol of that name; `near` holds names that look like it."""

    def __init__(self, name: str, near: Sequence[str], release: str) -> None:
        hint = f"near: {', '.join(near)}" if near else "is it spelt right, and configured in?"
        super().__init__(f"kernel {release or '?'} has no symbol {name}", hint=hint)
        self.name = name
        self.near = list(near)


def listed(candidates: Sequence[Symbol]) -> str:
    """Candidates in a line: address and letter of each."""
    shown = [f"{one.address:016x} {one.type}" for one in candidates[:_CANDIDATES_SHOWN]]
    if len(candidates) > len(shown):
        shown.append(f"and {len(candidates) - len(shown)} more")
    return ", ".join(shown)


class AmbiguousSymbol(KbridgeError):  # noqa: N818
    """Several definitions of that name; `candidates` holds all of them."""

    def __init__(self, name: str, candidates: Sequence[Symbol], release: str) -> None:
        super().__init__(
            f"kernel {release or '?'} has {len(candidates)} definitions of {name}: "
            + listed(candidates),
            hint=f"static in several files: choose one with --symbol {name}=ADDRESS or "
            f"{name}@FILE (scons: symbol=...), or use a name that only one file defines",
        )
        self.name = name
        self.candidates = list(candidates)


def _is_global(symbol: Symbol) -> bool:
    # scripts/kallsyms.c (make_percpus_absolute) gives every per-CPU variable the type A, static
    # ones too: that letter says nothing about the binding.
    return symbol.type.isupper() and symbol.type != "A"


def _choose(candidates: Sequence[Symbol]) -> Symbol | None:
    """The definition that a reference from another file means, or None where that is open
    or there is none.

    Where exactly one address is defined globally, the others are static: the kernel's own link
    binds a reference from another file to the global one, and so do we.
    """
    if len({one.address for one in candidates}) == 1:
        return candidates[0]
    globals_ = [one for one in candidates if _is_global(one)]
    return globals_[0] if len({one.address for one in globals_}) == 1 else None


def _pairs(name: str) -> set[str]:
    return {name[i : i + 2] for i in range(len(name) - 1)}


@dataclass(frozen=True)
class SymbolTable:
    """The symbols of one kernel, in the order of its kallsyms.

    `release` is what uname -r says there, `build_id` the GNU build ID in hex; both are empty
    where the source does not tell.  `origin` says where the table came from, for messages.
    """

    symbols: Sequence[Symbol]
    release: str
    build_id: str
    origin: str
    choices: Mapping[str, Symbol] = field(default_factory=dict)  # what a person chose, by name

    @cached_property
    def _columns(self) -> Columns:
        return Columns.of(self.symbols)

    @cached_property
    def _index(self) -> dict[str, int]:
        """Name to the index of its last definition."""
        names = self._columns.names
        return dict(zip(names, range(len(names)), strict=True))

    @cached_property
    def _several(self) -> dict[str, list[int]]:
        """Name to the indexes of all its definitions, where there are several."""
        last, names = self._index, self._columns.names
        found: dict[str, list[int]] = {}
        if len(last) < len(names):
            own = range(len(names))
            differ = map(operator.ne, map(last.__getitem__, names), own)
            for index in itertools.compress(own, differ):
                found.setdefault(names[index], []).append(index)
            for name, indexes in found.items():
                indexes.append(last[name])
        return found

    def _defined(self, name: str) -> list[Symbol]:
        if isinstance(self.symbols, Named):
            return self.symbols.named(name)
        if name not in self._index:
            return []
        return [self._columns[i] for i in self._several.get(name) or [self._index[name]]]

    def find(self, name: str) -> list[Symbol]:
        """Every definition with that name; none is an empty list."""
        found = self._defined(name)
        if not found and name in LINKER_ALIASES:
            found = [one._replace(name=name) for one in self._defined(LINKER_ALIASES[name])]
        return found

    def resolve(self, name: str) -> Symbol:
        """The one symbol that `name` means.

        Of several definitions the only global one is taken; see `_choose`.
        Raises UnknownSymbol with near matches, AmbiguousSymbol with the candidates.
        """
        if name in self.choices:
            return self.choices[name]
        candidates = self.find(name)
        if not candidates:
            raise UnknownSymbol(name, self.near(name), self.release)
        chosen = _choose(candidates)
        if chosen is None:
            raise AmbiguousSymbol(name, candidates, self.release)
        return chosen

    def resolvable(self) -> Columns:
        """One symbol for every name that `resolve` accepts, linker aliases last."""
        return self._meant[0]

    @cached_property
    def _meant(self) -> tuple[Columns, list[str]]:
        """What has one meaning, and the names that have none."""
        all_, ambiguous = self._columns, []
        keep = bytearray(b"\1") * len(all_)
        for name, indexes in self._several.items():
            chosen = self.choices.get(name) or _choose([all_[i] for i in indexes])
            for i in indexes:
                keep[i] = 0
            if chosen is None:
                ambiguous.append(name)
            else:
                keep[next(i for i in indexes if all_[i] == chosen)] = 1
        aliases = [
            symbol._replace(name=alias)
            for alias, name in LINKER_ALIASES.items()
            if alias not in self._index
            if (symbol := self.choices.get(alias) or _choose(self._defined(name))) is not None
        ]
        kept = itertools.compress  # much faster than a list of what to keep
        meant = Columns(
            [*kept(all_.addresses, keep), *(one.address for one in aliases)],
            "".join([*kept(all_.types, keep), *(one.type for one in aliases)]),
            [*kept(all_.names, keep), *(one.name for one in aliases)],
        )
        return meant, ambiguous

    def ambiguous(self) -> list[str]:
        """The names that have several definitions and no one meaning."""
        return self._meant[1]

    def near(self, name: str, n: int = 3) -> list[str]:
        """Up to `n` names that look like `name`, the nearest first.

        difflib alone would need seconds for a whole kernel, so it only sees the names that
        share the most letters, and of these the most letter pairs, with `name`.
        """
        letters, pairs = set(name), _pairs(name)
        enough = (3 * len(letters) + 3) // 4
        shortest, longest = len(name) * 2 // 3, len(name) * 3 // 2 + 1
        aliases = [alias for alias, meant in LINKER_ALIASES.items() if meant in self._index]
        similar = (
            other
            for other in itertools.chain(self._index, aliases)
            if shortest <= len(other) <= longest and len(letters.intersection(other)) >= enough
        )

        def shared(other: str) -> tuple[int, int]:
            # A shorter name with as many pairs in common is the nearer one.
            return len(pairs & _pairs(other)), -len(other)

        nearest = heapq.nlargest(_NEAR_BY_PAIRS, similar, key=shared)
        return difflib.get_close_matches(name, nearest, n=n, cutoff=0.6)

    def digest(self) -> str:
        """A hex key for files made from this table: equal tables have equal digests."""
        content = hashlib.sha256(f"{self.release}\0{self.build_id}\0".encode())
        content.update(array("Q", self._columns.addresses).tobytes())
        content.update(self._columns.types.encode())
        content.update("\n".join(self._columns.names).encode())
        return content.hexdigest()
