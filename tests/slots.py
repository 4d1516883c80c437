# SPDX-License-Identifier: GPL-2.0-only
"""Reads what tests/vm/programs/names.c printed, and judges every slot that ld.so has filled.

The kernel's own /proc/kallsyms says what a slot of a kernel name must hold.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

DEFINITIONS = Path(__file__).parent / "vm/programs/names.def"
KERNEL = "LINUX_KERNEL"
DATA = 1  # R_X86_64_64
JUMP_SLOT = 7
USER_END = 1 << 47
LIBC = "libc.so.6"
PROGRAM = "program"  # as names.c calls it
LIBKERNEL = "libkernel.so"


def names(kind: str = "NAME") -> list[str]:
    """Names that kernel and libc have: NAME functions, DATA data."""
    return re.findall(rf"^{kind}\((\w+)\)$", DEFINITIONS.read_text(), re.MULTILINE)


@dataclass(frozen=True)
class Slot:
    file: str  # the object that the slot is of
    type: int
    name: str
    version: str
    weak: bool
    value: int
    addend: int


@dataclass
class Picture:
    """The objects of a process, by the last part of their names, and their slots."""

    objects: dict[str, tuple[int, int]] = field(default_factory=dict)
    slots: list[Slot] = field(default_factory=list)

    def home(self, address: int) -> str | None:
        """The object that `address` lies in."""
        for name, (start, end) in self.objects.items():
            if start <= address < end:
                return name
        return None

    def of_names(self, file: str) -> Iterator[Slot]:
        """The slots that `file` has for libc's functions."""
        known = set(names())
        return (s for s in self.slots if s.file == file and s.name in known and s.version != KERNEL)

    def unbound(self, file: str) -> set[str]:
        """Those that are lazy and that nobody has called yet."""
        return {
            slot.name
            for slot in self.of_names(file)
            if slot.type == JUMP_SLOT and self.home(slot.value) == file
        }


@dataclass
class Report:
    before: Picture = field(default_factory=Picture)
    after: Picture = field(default_factory=Picture)
    kernel: dict[str, dict[str, int]] = field(default_factory=lambda: {"data": {}, "code": {}})
    address: dict[str, int] = field(default_factory=dict)  # by the program's own pointers
    lookup: dict[str, int] = field(default_factory=dict)  # by dlsym()
    other: list[str] = field(default_factory=list)


def read(text: str) -> Report:
    """Parse the output; lines that are not of names.c's own are in `other`."""
    report = Report()
    picture = report.before
    for line in text.splitlines():
        words = line.split(" ")
        match words:
            case ["after"]:
                picture = report.after
            case ["object", name, start, end]:
                picture.objects[name.rpartition("/")[2]] = int(start, 16), int(end, 16)
            case ["slot", file, kind, name, version, binding, value, addend]:
                row = (binding == "weak", int(value, 16), int(addend, 16))
                file = file.rpartition("/")[2]
                picture.slots.append(Slot(file, int(kind), name, version, *row))
            case ["kernel", how, name, value]:
                report.kernel[how][name] = int(value, 16)
            case ["address", name, value]:
                report.address[name] = int(value, 16)
            case ["lookup", name, value]:
                report.lookup[name] = int(value, 16)
            case _:
                report.other.append(line)
    return report


def kallsyms(text: str) -> dict[str, int]:
    """The kernel image's symbols that have one meaning: one address, or one global one."""
    found: dict[str, dict[int, bool]] = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3:  # a fourth is a module
            places = found.setdefault(words[2], {})
            is_global = words[1].isupper() and words[1] != "A"
            places[int(words[0], 16)] = places.get(int(words[0], 16), False) or is_global
    table = {}
    for name, places in found.items():
        chosen = list(places) if len(places) == 1 else [a for a, good in places.items() if good]
        if len(chosen) == 1:
            table[name] = chosen[0]
    return table


@dataclass(frozen=True)
class Judge:
    """`kernel`: kallsyms(); `own`: by name the object that stands in for libc, where one does."""

    kernel: Mapping[str, int]
    own: Mapping[str, str] = field(default_factory=dict)

    def complaints(self, report: Report) -> list[str]:
        """What is not as it should be, a line each."""
        found = []
        for picture in (report.before, report.after):
            found += [line for slot in picture.slots for line in self._slot(picture, slot)]
        for how, addresses in report.kernel.items():
            for name, address in addresses.items():
                if address != self.kernel.get(name):
                    found.append(f"kmod's {how}: {name} is {address:#x}")
        for how, addresses in (("address", report.address), ("dlsym", report.lookup)):
            for name, address in addresses.items():
                if not self._at_home(report.after, name, address):
                    found.append(f"the app's {how} of {name} is {address:#x}")
        return found + [line for line in report.other if line.startswith("FAIL")]

    def _at_home(self, picture: Picture, name: str, address: int) -> bool:
        home = picture.home(address)
        if home == self.own.get(name, LIBC):
            return True
        # a program that is not PIE: a copy of the data, or its own PLT entry is the address
        if home != PROGRAM or name in self.own:
            return False
        slots = (s for s in picture.of_names(PROGRAM) if s.type == JUMP_SLOT)
        return name in names("DATA") or any(s.name == name for s in slots)

    def _slot(self, picture: Picture, slot: Slot) -> Iterable[str]:
        text = f"{slot.file}: {slot.name}@{slot.version} (type {slot.type}) is {slot.value:#x}"
        if slot.version == KERNEL:
            wanted = self.kernel.get(slot.name, -1) + slot.addend
            return [] if slot.value == wanted else [f"{text}, not {wanted:#x}"]
        if not slot.value:
            return [] if slot.weak else [text]
        address = slot.value - slot.addend
        home = picture.home(address)
        if home is None and slot.type == DATA and slot.file == LIBC and address < USER_END:
            return []  # a variable, as _IO_list_all, that libc has changed since
        if home is None or home == LIBKERNEL:
            return [f"{text}, in {home}"]
        lazy = slot.type == JUMP_SLOT and home == slot.file
        both = slot.name in (*names(), *names("DATA"), *self.own)
        good = not both or lazy or self._at_home(picture, slot.name, address)
        return [] if good else [f"{text}, in {home}"]
