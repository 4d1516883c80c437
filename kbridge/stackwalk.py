# SPDX-License-Identifier: GPL-2.0-only
"""Reads from machine code what each function does with the stack: how many bytes it takes, and how
many at each call.  So it is the same for gcc, clang and assembly, and for both code models.

A function's code is followed along its jumps, also into its cold part; a jump to the start of
another function is a call that takes no return address.  Not for judging: stack.py does.
"""

from __future__ import annotations

import bisect
import graphlib
import itertools
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

_WORD = 8
_COLD = re.compile(r"\.cold(\.\d+)?$")
_PADDING = ("__pfx_", "__cfi_")  # names of what lies before functions
_INDIRECT = "__x86_indirect_"  # retpolines
_RETURN = "__x86_return_thunk"
_TRACER = "__fentry__"
_STATIC_CALL = "__SCT__"  # DEFINE_STATIC_CALL(): a function that jumps to the present target
# the kernel's functions that do not come back, of those that modules can call: tools/objtool/
# noreturns.h; what stands behind such a call is reached, if at all, from elsewhere
_NO_RETURN = {
    "__stack_chk_fail", "panic", "do_exit", "kthread_exit", "kthread_complete_and_exit",
    "__module_put_and_kthread_exit", "fortify_panic", "__fortify_panic", "usercopy_abort",
    "make_task_dead", "__ubsan_handle_builtin_unreachable", "btrfs_assertfail", "__reiserfs_panic",
}  # fmt: skip
# tables of places in the code that another place is reached from: bytes of an entry, which begins
# with two distances (struct jump_entry, struct exception_table_entry)
_TABLES = {"__jump_table": 16, "__ex_table": 12}
_STOPS = {"ret", "retf", "retfq", "iretq", "sysretq", "sysexitq", "int3", "ud2", "ljmp"}
_FILLERS = {"nop", "int3", "ud2", "call"}
_PLACE = re.compile(r"\[(\w+)(?: ([+-]) (0x[0-9a-f]+|\d+))?\]$")
_RIP = re.compile(r"\[rip(?: ([+-]) (0x[0-9a-f]+|\d+))?\]$")
_NO_TARGET = {"cmp", "test", "push", "bt", "ucomisd"}  # their first operand is read only


class Region(NamedTuple):
    """A section: its place in the address space of the code, and its bytes."""

    name: str
    start: int
    content: bytes
    executable: bool


@dataclass(frozen=True)
class Code:
    """`functions`: name, start and size.  `imports`: the kernel symbol that relocation writes to a
    place; everything within the code is relocated already."""

    regions: list[Region]
    functions: list[tuple[str, int, int]]
    imports: Mapping[int, str]


class Call(NamedTuple):
    """A call or jump at `at`: `used` bytes are in use when the callee starts."""

    at: int
    used: int


@dataclass
class Frame:
    """What one function does with the stack, in bytes below its return address.

    `calls`: by the callee's start, from where most is in use.  `grows`: places where it takes a
    number of bytes that is not in the code.
    """

    name: str
    start: int
    most: int = 0
    calls: dict[int, Call] = field(default_factory=dict)
    kernel: Call | None = None
    indirect: list[int] = field(default_factory=list)
    grows: list[int] = field(default_factory=list)

    def call(self, target: int, at: int, used: int) -> None:
        if target not in self.calls or self.calls[target].used < used:
            self.calls[target] = Call(at, used)

    def call_kernel(self, at: int, used: int) -> None:
        if self.kernel is None or self.kernel.used < used:
            self.kernel = Call(at, used)


class _State(NamedTuple):
    """Before an instruction: bytes in use; registers that hold a place on the stack, as bytes in
    use there; whether a jump or the code's order surely leads here."""

    used: int
    held: dict[str, int]
    sure: bool = True


_Instruction = tuple[int, int, str, str]


def _number(text: str) -> int:
    value = int(text, 0)
    return value - (1 << 64) if value >= 1 << 63 else value


def is_node(name: str) -> bool:
    """Whether the symbol is a function, rather than a part of one or padding."""
    return not _COLD.search(name) and not name.startswith(_PADDING)


def links(code: Code) -> Iterator[tuple[int, int]]:
    """(place, where the code may go on instead) from static branches and exception tables."""
    for region in code.regions:
        size = _TABLES.get(region.name)
        for offset in range(0, len(region.content) - (size or 0) + 1 if size else 0, size or 1):
            source, target = struct.unpack_from("<ii", region.content, offset)
            at = region.start + offset
            yield at + source, at + 4 + target


class _Walker:
    def __init__(self, code: Code) -> None:
        self.code = code
        starts = sorted({start for _, start, _ in code.functions})
        self.starts = set(starts)
        self.nodes: dict[int, str] = {}
        for name, start, _ in code.functions:
            if is_node(name):
                self.nodes.setdefault(start, name)
        self.ends: dict[int, int] = {}
        for _, start, size in code.functions:
            self.ends[start] = max(self.ends.get(start, 0), start + size)
        self.links: dict[int, list[int]] = {}
        for source, target in links(code):
            self.links.setdefault(source, []).append(target)
        self.instructions = {one[0]: one for one in self._decode(starts)}

    def _decode(self, starts: list[int]) -> Iterator[_Instruction]:
        import capstone

        disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
        disassembler.skipdata = True
        for region in self.code.regions:
            if not region.executable:
                continue
            end = region.start + len(region.content)
            # afresh at each function, so that data between them misleads no further
            edges = [region.start, *(at for at in starts if region.start < at < end), end]
            for start, stop in itertools.pairwise(edges):
                content = region.content[start - region.start : stop - region.start]
                yield from disassembler.disasm_lite(content, start)

    # -- one function --

    def walk(self, start: int) -> Frame:
        self.frame = frame = Frame(self.nodes[start], start)
        self.seen: dict[int, int] = {}
        self.now: list[tuple[int, _State]] = [(start, _State(0, {}))]
        self.later: list[tuple[int, _State]] = []
        self.last: list[tuple[int, _State]] = []
        self.switches = 0
        self.cursor = start
        while True:
            while self.now or self.later or self.last:
                self._run(*(self.now or self.later or self.last).pop())
            left = self._unseen(start)
            if left is None:
                return frame
            self.now.append((left, _State(self.switches or frame.most, {}, sure=False)))

    def _unseen(self, start: int) -> int | None:
        """Code of the function that no jump leads to: a case of a switch."""
        while self.cursor < self.ends[start]:
            found = self.instructions.get(self.cursor)
            if found is None:
                return None
            if self.cursor not in self.seen and found[2] not in _FILLERS | {".byte"}:
                return self.cursor
            self.cursor += found[1]
        return None

    def _run(self, at: int, state: _State) -> None:
        previous = ""
        while True:
            if previous and at in self.starts and at != self.frame.start:
                if previous not in _FILLERS and at in self.nodes:
                    self.frame.call(at, at, state.used)  # assembly that falls through
                return
            one = self.instructions.get(at)
            if one is None or at in self.seen:
                return
            self.seen[at] = state.used
            for target in self.links.get(at, ()):
                self.now.append((target, state._replace(held=dict(state.held))))
            state, goes_on = self._step(one, state)
            if not goes_on:
                return
            previous, at = one[2].rpartition(" ")[2], at + one[1]

    def _take(self, used: int) -> int:
        self.frame.most = max(self.frame.most, used)
        return used

    def _step(self, one: _Instruction, state: _State) -> tuple[_State, bool]:
        """The state after the instruction, and whether the next one follows it."""
        at, size, mnemonic, operands = one
        base = mnemonic.rpartition(" ")[2]  # 'bnd jmp', 'notrack jmp'
        if base == "call":
            return state, self._call(at, size, operands, state)
        if base[0] == "j" or base.startswith("loop"):
            return state, self._jump(at, size, base, operands, state)
        if base == "ud2":  # WARN_ON() goes on, BUG() does not
            self._wait(self.last, at + size, state._replace(sure=False))
        if base in _STOPS:
            return state, False
        return self._data(at, base, operands, state), True

    def _data(self, at: int, base: str, operands: str, state: _State) -> _State:
        """The state after an instruction that is no branch."""
        if base.startswith("push"):
            return state._replace(used=self._take(state.used + _WORD))
        if base.startswith("pop"):
            return state._replace(used=state.used - _WORD)
        if base == "leave":
            return state._replace(used=state.held.get("rbp", state.used) - _WORD)
        if "rsp" in operands or (state.held and operands.partition(",")[0] in state.held):
            return self._move(at, base, operands, state)
        return state

    # -- calls and jumps --

    def _name(self, at: int, size: int, operands: str) -> str | None:
        """The kernel symbol that the branch goes to, through a word of the image or at once."""
        for place in range(at + 1, at + size):
            if place in self.code.imports:
                return self.code.imports[place]
        found = _RIP.search(operands)
        if found:
            distance = _number((found[1] or "+") + (found[2] or "0"))
            return self.code.imports.get(at + size + distance)
        return None

    def _call(self, at: int, size: int, operands: str, state: _State) -> bool:
        name = self._name(at, size, operands)
        if name == _TRACER:
            return True  # it becomes a NOP
        used = self._take(state.used + _WORD)
        if name is not None and name.startswith(_INDIRECT):
            self.frame.indirect.append(at)
        elif name in _NO_RETURN:
            return False
        elif name is not None:
            self.frame.call_kernel(at, used)
        elif not operands[:1].isdigit():
            self.frame.indirect.append(at)
        else:
            target = int(operands, 0)
            if target in self.nodes:
                self._direct(target, at, used)
            else:
                self.now.append((target, _State(used, {}, state.sure)))
        self._wait(self.later, at + size, state)
        return False

    def _wait(self, queue: list[tuple[int, _State]], at: int, state: _State) -> None:
        """Go on behind a call after everything else, since it may never come back."""
        if at not in self.starts:
            queue.append((at, state))

    def _direct(self, target: int, at: int, used: int) -> None:
        self.frame.call(target, at, used)
        if self.nodes[target].startswith(_STATIC_CALL):  # later it may go elsewhere
            self.frame.indirect.append(at)

    def _jump(self, at: int, size: int, base: str, operands: str, state: _State) -> bool:
        goes_on = base != "jmp"
        name = self._name(at, size, operands)
        if name == _RETURN:
            return goes_on
        if name is not None and not name.startswith(_INDIRECT):
            self.frame.call_kernel(at, state.used)
        elif name is not None or not operands[:1].isdigit():
            self.switches = max(self.switches, state.used)
            # with nothing left on the stack it is a call; else a switch, whose cases come later
            if name is not None or not state.used:
                self.frame.indirect.append(at)
        else:
            self._go(at, int(operands, 0), state)
        return goes_on

    def _go(self, at: int, target: int, state: _State) -> None:
        if target in self.nodes and target != self.frame.start:
            self._direct(target, at, state.used)
            return
        before = self.seen.get(target)
        if before is None:
            self.now.append((target, state._replace(held=dict(state.held))))
        elif state.sure and target <= at and state.used > before:
            self.frame.grows.append(at)  # a loop that leaves more on the stack each time

    # -- other instructions that name the stack pointer --

    def _move(self, at: int, base: str, operands: str, state: _State) -> _State:
        first, _, second = operands.partition(", ")
        if first == "rsp" and base not in _NO_TARGET:
            used = self._new_pointer(base, second, state)
            if used is None:
                # where the walk began in the middle, registers that hold a place are not known
                if state.sure or base == "sub":
                    self.frame.grows.append(at)
                return state
            return state._replace(used=self._take(used))
        if base in _NO_TARGET or "[" in first:
            return state
        place = self._place(base, second, state)
        held = dict(state.held)
        if place is not None:
            # code that probes a large frame page by page names its end so
            self._take(place)
            held[first] = place
        elif not (base == "mov" and "[" in second):  # what was saved comes back
            held.pop(first, None)
        return state._replace(held=held)

    def _place(self, base: str, operand: str, state: _State) -> int | None:
        """Of which place on the stack the instruction computes the address: bytes in use there."""
        known = {**state.held, "rsp": state.used}
        if base == "mov":
            return known.get(operand)
        found = _PLACE.search(operand) if base == "lea" else None
        if found is None or found[1] not in known:
            return None
        return known[found[1]] - _number((found[2] or "+") + (found[3] or "0"))

    def _new_pointer(self, base: str, operand: str, state: _State) -> int | None:
        """Bytes in use after the instruction, None if the code does not tell."""
        if operand[:1].isdigit() or operand[:1] == "-":
            value = _number(operand)
            if base in ("sub", "add"):
                return state.used + (value if base == "sub" else -value)
            return state.used + max(0, -value - _WORD) if base == "and" else None
        if base == "mov" and "[" in operand:
            return state.used  # what was saved comes back
        found = _PLACE.search(operand) if base == "lea" else None
        if found and found[1] not in (*state.held, "rsp"):
            # a caller's stack pointer that an aligned frame kept: nothing is in use
            return max(0, -_WORD - _number((found[2] or "+") + (found[3] or "0")))
        return self._place(base, operand, state)


def frames(code: Code) -> dict[int, Frame]:
    """What each function does with the stack, by its start."""
    walker = _Walker(code)
    executable = [
        (region.start, region.start + len(region.content))
        for region in code.regions
        if region.executable
    ]

    def inside(at: int) -> bool:
        return any(start <= at < end for start, end in executable)

    return {start: walker.walk(start) for start in sorted(walker.nodes) if inside(start)}


# -- the same from bytes alone, for code that is plainly small --

# instructions that set the stack pointer, but for those that add or subtract a number: with %rsp as
# the operand r/m, as the operand reg, and in forms without either
_SETS = re.compile(
    rb"[\x48\x4a\x4c\x4e][\x29\x89\x87\x01][\xc4\xcc\xd4\xdc\xe4\xec\xf4\xfc]"
    rb"|[\x48-\x4b](?:[\x2b\x8b\x03\x87][\x20-\x27\x60-\x67\xa0-\xa7\xe0-\xe7]"
    rb"|\x8d(?:[\x20-\x23\x25-\x27\x60-\x63\x65-\x67\xa0-\xa3\xa5-\xa7]|[\x24\x64\xa4][^\x24]))"
    rb"|\x48(?:[\x81\x83]\xe4|\x94)",
    re.DOTALL,
)
# the rest is looked for in every place, also within what looks like another instruction
_SUBTRACTS = re.compile(
    rb"\x48(?=\x83\xec(.)|\x83\xc4([\x80-\xff])|\x81[\xec\xc4](....)"
    rb"|\x8d\x64\x24(.)|\x8d\xa4\x24(....))",
    re.DOTALL,
)
_PUSHES = re.compile(rb"[\x50-\x57\x68\x6a\x9c]|\xff[\x30-\x37\x70-\x77\xb0-\xb7\xf0-\xf7]")
_CALL = 0xE8
_BRANCHES = re.compile(
    rb"(?:[\xe8\xe9]|\x0f[\x80-\x8f])(?=(....))|[\xeb\x70-\x7f](?=(.))", re.DOTALL
)


def _subtracted(content: bytes) -> int:
    total = 0
    for found in _SUBTRACTS.finditer(content):
        number = next(group for group in found.groups() if group is not None)
        total += abs(int.from_bytes(number, "little", signed=True))
    return total


def _branches(code: Code) -> dict[str, set[str]]:
    """Which function's bytes might be a call of, or a jump to, which function's start.

    A function and its cold part have one name here, as have functions of one name.
    """
    names: dict[int, str] = {}
    for name, start, _ in code.functions:
        if not name.startswith(_PADDING):
            names.setdefault(start, _COLD.sub("", name))
    starts = sorted(names)
    found: dict[str, set[str]] = {}
    for region in code.regions:
        for match in _BRANCHES.finditer(region.content) if region.executable else ():
            distance = match[1] or match[2]
            at = region.start + match.end()
            target = at + len(distance) + int.from_bytes(distance, "little", signed=True)
            if target in names and at not in code.imports:
                own = names[starts[max(0, bisect.bisect_right(starts, at) - 1)]]
                # a jump to the own start is a loop
                if own != names[target] or region.content[match.start()] == _CALL:
                    found.setdefault(own, set()).add(names[target])
    return found


def is_small(code: Code, most: int) -> bool:
    """Whether the bytes alone show that no path takes more than `most` bytes of stack, and that no
    function calls itself or takes an unknown number of bytes.

    Every byte that could begin such an instruction counts, so True is sure, and False says nothing.
    It saves loading a disassembler, which takes longer than the rest of packing.  Not seen, as no
    compiler writes it: a loop of pushes, and code that falls through into another function.
    """
    total = 0
    for region in code.regions:
        if not region.executable:
            continue
        if _SETS.search(region.content):
            return False
        pushes = sum(1 for _ in _PUSHES.finditer(region.content))
        calls = region.content.count(b"\xe8") + region.content.count(b"\xff")
        total += _subtracted(region.content) + _WORD * (pushes + calls)
    return total <= most and not _has_cycle(_branches(code))


def _has_cycle(graph: Mapping[str, Iterable[str]]) -> bool:
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError:
        return True
    return False
