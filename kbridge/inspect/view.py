# SPDX-License-Identifier: GPL-2.0-only
"""One picture of kernel code for all kinds of file: regions of one address space, functions, and
what the relocations refer to.

A linked program's image has its own offsets; the sections of an object or module are laid out one
after the other.  program.py, objects.py and plain.py make views; everything else reads them.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

# symbols of the padding before functions: arch/x86/Kconfig, CALL_PADDING; CFI_CLANG
PADDING = ("__pfx_", "__cfi_")

# what a reference is to
IMPORT, INSIDE, PERCPU, OTHER = "import", "inside", "per-CPU", "other"


@dataclass(frozen=True)
class Region:
    """A section: `data` is empty where the file holds none (bss).  `index`: its number there."""

    name: str
    start: int
    size: int
    executable: bool
    data: bytes
    index: int = 0

    @property
    def end(self) -> int:
        return self.start + self.size


class Function(NamedTuple):
    """`external`: other files may name it (a linked image does not tell: False)."""

    start: int
    size: int
    name: str
    external: bool = False


class Reference(NamedTuple):
    """A place that relocation fills: `type` by the x86-64 psABI.

    `kind` IMPORT: `name` is the kernel symbol.  INSIDE: `value` is an address of the view.
    PERCPU: `value` is an offset into the own per-CPU area.  The addend is in `value`.
    """

    at: int
    type: int
    kind: str
    name: str
    value: int


class Variable(NamedTuple):
    """A per-CPU variable: offset into the per-CPU area and size, in bytes."""

    offset: int
    size: int
    name: str


@dataclass
class View:
    """`regions` by address; `left_out`: allocated sections that are not in it, with their size."""

    regions: list[Region] = field(default_factory=list)
    functions: list[Function] = field(default_factory=list)
    references: list[Reference] = field(default_factory=list)
    variables: list[Variable] = field(default_factory=list)
    left_out: list[tuple[str, int]] = field(default_factory=list)

    def finish(self) -> View:
        """Sort; to be called once everything is in."""
        self.regions.sort(key=lambda region: region.start)
        # of several names of one place the external one comes first, and is the one shown
        self.functions.sort(key=lambda one: (one.start, not one.external, -one.size, one.name))
        self.references.sort()
        self.variables.sort()
        return self

    @cached_property
    def _starts(self) -> list[int]:
        return [function.start for function in self.functions]

    @cached_property
    def _region_starts(self) -> list[int]:
        return [region.start for region in self.regions]

    @cached_property
    def _reference_places(self) -> list[int]:
        return [reference.at for reference in self.references]

    def region_at(self, address: int) -> Region | None:
        index = bisect.bisect_right(self._region_starts, address) - 1
        if index < 0 or address >= self.regions[index].end:
            return None
        return self.regions[index]

    def function_at(self, address: int) -> Function | None:
        """The function around the address; of aliases the external one."""
        index = bisect.bisect_right(self._starts, address) - 1
        if index < 0:
            return None
        index = bisect.bisect_left(self._starts, self._starts[index])
        found = self.functions[index]
        region = self.region_at(address)
        # assembly may have no size: then up to the next symbol, in the same section
        if found.size and address >= found.start + found.size:
            return None
        return found if region is not None and found.start >= region.start else None

    def function_starts(self, region: Region) -> list[int]:
        """Where to start reading afresh: every function of the region."""
        first = bisect.bisect_left(self._starts, region.start)
        last = bisect.bisect_left(self._starts, region.end)
        return sorted(set(self._starts[first:last]))

    def count_functions(self, region: Region | None = None) -> int:
        """How many functions there are (in a region), without padding that has a name."""
        return len(
            {
                one.start
                for one in self.functions
                if not one.name.startswith(PADDING)
                and (region is None or region.start <= one.start < region.end)
            }
        )

    def references_in(self, start: int, end: int) -> list[Reference]:
        places = self._reference_places
        return self.references[bisect.bisect_left(places, start) : bisect.bisect_left(places, end)]

    def read(self, address: int, size: int) -> bytes:
        """Bytes of the view; fewer where the region ends, none outside."""
        region = self.region_at(address)
        if region is None:
            return b""
        offset = address - region.start
        return region.data[offset : offset + size]

    def named(self, name: str) -> Iterator[Region]:
        return (region for region in self.regions if region.name == name)

    def where(self, address: int) -> tuple[str, int]:
        """(function, offset into it), or (section, offset)."""
        function = self.function_at(address)
        if function is not None:
            return function.name, address - function.start
        region = self.region_at(address)
        return (region.name, address - region.start) if region else ("", address)
