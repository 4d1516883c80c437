# SPDX-License-Identifier: GPL-2.0-only
"""How much of the kernel stack a kmod's functions take, as far as its own code tells.

A gate runs on the calling thread's kernel stack, and one that overflows it stops the machine.  So
a path that is too deep is refused, and a warning names what nobody can know from the code:
recursion, and memory of a computed size on the stack.  What indirect calls and the kernel's own
functions take is not known either; for the latter there is the reserve.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from kbridge import lines, log, options, stackwalk
from kbridge.errors import KbridgeError
from kbridge.pack import SYM_IMPORT, Image
from kbridge.stackwalk import Code, Frame, Region

TOO_DEEP, UNKNOWN = "stack", "stack-unknown"  # for --allow
WORD = 8


class Step(NamedTuple):
    """A function on a path: `used` bytes from its return address to the next function's, or its
    deepest; `at`: where it calls the next one, else None."""

    function: int
    used: int
    at: int | None


@dataclass(frozen=True)
class Need:
    """What one function takes: bytes below its return address, and what is not known of it.

    `recursion`: the circles that it comes to, as names of functions.  `grows`: functions with
    memory of a computed size.  `indirect`: how many calls through pointers.  `kernel`: bytes in use
    where it calls the kernel, None where it never does.
    """

    bytes: int
    recursion: list[list[str]] = field(default_factory=list)
    grows: list[str] = field(default_factory=list)
    indirect: int = 0
    kernel: int | None = None


def plain(name: str) -> str:
    """The function's name in the source: compilers add .isra.0, .constprop.0 ..."""
    return name.partition(".")[0] or name


def code_of(image: Image) -> Code:
    """The code of a packed image, as stackwalk.py takes it."""
    regions = [
        Region(
            place.name,
            place.offset,
            bytes(image.content[place.offset : place.offset + place.size]),
            place.offset < image.text_end,
        )
        for place in image.places
        if place.kind == "i" and place.size
    ]
    imports = {
        record.offset: image.imports[record.symbol - SYM_IMPORT].name
        for record in image.records
        if record.symbol >= SYM_IMPORT
    }
    return Code(regions, image.functions, imports)


class Stack:
    """The call graph of some code, and what follows from it."""

    def __init__(self, code: Code) -> None:
        self.frames = stackwalk.frames(code)
        self.calls: dict[int, list[int]] = {
            start: sorted(one for one in frame.calls if one in self.frames)
            for start, frame in self.frames.items()
        }
        self._depths: dict[int, int] = {}
        self._next: dict[int, int | None] = {}
        for group in self._groups:
            self._measure(group)

    def name(self, function: int) -> str:
        return plain(self.frames[function].name)

    @cached_property
    def _groups(self) -> list[list[int]]:
        """Functions that call each other, callees before their callers: Tarjan's algorithm, with
        a stack of its own."""
        number: dict[int, int] = {}
        low: dict[int, int] = {}
        open_: list[int] = []
        done: set[int] = set()
        groups = []
        for root in self.calls:
            work = [] if root in number else [(root, iter(self.calls[root]))]
            while work:
                one, rest = work[-1]
                if one not in number:
                    number[one] = low[one] = len(number)
                    open_.append(one)
                for other in rest:
                    if other not in number:
                        work.append((other, iter(self.calls[other])))
                        break
                    if other not in done:
                        low[one] = min(low[one], number[other])
                else:
                    work.pop()
                    if work:
                        low[work[-1][0]] = min(low[work[-1][0]], low[one])
                    if low[one] == number[one]:
                        first = open_.index(one)
                        groups.append(open_[first:])
                        done.update(groups[-1])
                        del open_[first:]
        return groups

    def _measure(self, group: list[int]) -> None:
        """The depths of functions that call each other: each circle is gone round once."""
        order = {one: place for place, one in enumerate(group)}
        for one in reversed(group):
            frame = self.frames[one]
            self._depths[one], self._next[one] = frame.most, None
            for other in self.calls[one]:
                if other in order and order[other] <= order[one]:
                    continue
                depth = frame.calls[other].used + self._depths[other]
                if depth > self._depths[one]:
                    self._depths[one], self._next[one] = depth, other

    def depth(self, function: int) -> int:
        return self._depths[function]

    def path(self, function: int) -> list[Step]:
        """The deepest path from the function."""
        steps = []
        now: int | None = function
        while now is not None:
            frame, other = self.frames[now], self._next[now]
            call = frame.calls[other] if other is not None else None
            steps.append(Step(now, call.used if call else frame.most, call.at if call else None))
            now = other
        return steps

    @cached_property
    def circles(self) -> list[list[Step]]:
        """Of functions that call each other, one way round for each such group.

        Jumps round a circle with nothing on the stack are a loop.
        """
        found = []
        for group in self._groups:
            inside = set(group)
            edges = [
                (self.frames[one].calls[other].used, one, other)
                for one in group
                for other in self.calls[one]
                if other in inside
            ]
            if edges and max(edges)[0]:
                # from the function that was written first, as a reader would begin
                found.append(self._way_round(inside, min(edge[1:] for edge in edges if edge[0])))
        return found

    def _way_round(self, inside: set[int], edge: tuple[int, int]) -> list[Step]:
        """The shortest circle with the call `edge` in it."""
        source, first = edge
        before: dict[int, int] = {first: source}
        queue = [first]
        while source not in before and queue:
            one = queue.pop(0)
            for other in self.calls[one]:
                if other in inside and other not in before:
                    before[other] = one
                    queue.append(other)
        way = [source]
        while before[way[-1]] != source:
            way.append(before[way[-1]])
        way = [source, *reversed(way[1:])]
        ends = [*way[1:], source]
        calls = [self.frames[one].calls[other] for one, other in zip(way, ends, strict=True)]
        return [Step(one, call.used, call.at) for one, call in zip(way, calls, strict=True)]

    def reach(self, function: int) -> set[int]:
        """All functions that it comes to by direct calls, itself too."""
        found, queue = {function}, [function]
        while queue:
            new = set(self.calls[queue.pop()]) - found
            found |= new
            queue += new
        return found

    def need(self, function: int) -> Need:
        reach = self.reach(function)
        grows = [one for one in sorted(reach) if self.frames[one].grows]
        return Need(
            self.depth(function),
            recursion=[
                [self.name(step.function) for step in circle]
                for circle in self.circles
                if circle[0].function in reach
            ],
            grows=[self.name(one) for one in grows],
            indirect=sum(len(set(self.frames[one].indirect)) for one in reach),
            kernel=self._kernel.get(function),
        )

    @cached_property
    def _kernel(self) -> dict[int, int]:
        """Bytes in use at the deepest call into the kernel; circles are gone round once."""
        deepest: dict[int, int] = {}
        for one in itertools.chain.from_iterable(map(reversed, self._groups)):
            frame = self.frames[one]
            below = [frame.kernel.used] if frame.kernel else []
            below += [
                frame.calls[other].used + deepest[other]
                for other in self.calls[one]
                if other in deepest
            ]
            if below:
                deepest[one] = max(below)
        return deepest


# -- what is said when a kmod is built --


class _Lines:
    """Source lines of places in the image, from the object that it was made of.  Slow, so asked
    only where there is something to say."""

    def __init__(self, image: Image, joined: Path) -> None:
        self.image, self.joined = image, joined

    @cached_property
    def _table(self) -> tuple[lines.SourceLines, dict[str, list[int]]]:
        from elftools.elf.elffile import ELFFile

        with self.joined.open("rb") as stream:
            elf = ELFFile(stream)
            numbers: dict[str, list[int]] = {}
            for number, section in enumerate(elf.iter_sections()):
                numbers.setdefault(section.name, []).append(number)
            return lines.SourceLines(elf, self.joined.name), numbers

    def at(self, offset: int) -> str:
        """'file.c:12', or '' where nobody knows."""
        table, numbers = self._table
        for place in self.image.places:
            if place.kind == "i" and place.offset <= offset < place.offset + place.size:
                for number in numbers.get(place.name, ()):
                    said = table.at(number, offset - place.offset)
                    if said != table.name:
                        return said
        return ""


def _named(stack: Stack, step: Step, where: Callable[[int], str]) -> str:
    line = where(step.function if step.at is None else step.at)
    return f"{stack.name(step.function)}() {step.used}" + (f" ({line})" if line else "")


def _about(line: str) -> str:
    return f"{line}: " if line else ""


def _say_circle(stack: Stack, circle: Sequence[Step], limit: int, where: _Lines) -> None:
    names = [f"{stack.name(step.function)}()" for step in circle]
    lines_ = [where.at(step.at or step.function) for step in circle]
    if len(circle) == 1:
        what = f"{names[0]} calls itself"
    else:
        others = [
            f"{name} ({line})" if line else name
            for name, line in zip(names[1:], lines_[1:], strict=True)
        ]
        what = f"{names[0]} calls {', which calls '.join(others)}, which calls {names[0]}"
    each = sum(step.used for step in circle)
    log.warning(
        f"{_about(lines_[0])}recursion, whose depth is not known: {what}; each turn takes {each} "
        f"bytes of the kernel stack, of which a kmod has {limit} (class {UNKNOWN})"
    )


def _warn(stack: Stack, limit: int, where: _Lines) -> None:
    for circle in stack.circles:
        _say_circle(stack, circle, limit, where)
    for start, frame in stack.frames.items():
        for at in sorted(set(frame.grows))[:1]:
            log.warning(
                f"{_about(where.at(at))}in {stack.name(start)}(): takes a number of bytes of the "
                "kernel stack that is not known: alloca(), an array of variable length, or a loop "
                f"of pushes (class {UNKNOWN})"
            )


def _entries(image: Image) -> dict[int, int]:
    """Where the app or kelevate enters, and bytes that a gate takes for words on the stack."""
    found = {place: 0 for place in (image.init, image.exit) if place is not None}
    found |= {gate.offset: WORD * gate.stack_words for gate in image.gates}
    return found


def _refuse(stack: Stack, image: Image, limit: int, where: _Lines) -> None:
    """Raise KbridgeError for the deepest path over the limit, from an entry if there is one."""
    words = _entries(image)
    over = {
        one: stack.depth(one) + words.get(one, 0)
        for one in stack.frames
        if stack.depth(one) + words.get(one, 0) > limit
    }
    if not over:
        return
    worst = max(over, key=lambda one: (one in words, over[one]))
    path = stack.path(worst)
    shown = [_named(stack, step, where.at) for step in path]
    if words.get(worst):
        shown.insert(0, f"the gate's words {words[worst]}")
    raise KbridgeError(
        f"{_about(where.at(worst))}{stack.name(worst)}() takes {over[worst]} bytes of the kernel "
        f"stack, of which a kmod has {limit}: {' -> '.join(shown)} (class {TOO_DEEP})",
        hint="allocate what is large with kmalloc(); or, if you know better: --stack-limit BYTES "
        "(scons: stack_limit=BYTES)",
    )


def unknown(need: Need) -> list[str]:
    """What of a function's need is not known, in words."""
    words = []
    if need.recursion:
        words.append("recursion of " + ", ".join(f"{circle[0]}()" for circle in need.recursion))
    if need.grows:
        words.append("a computed size in " + ", ".join(f"{name}()" for name in need.grows))
    if need.indirect:
        words.append(f"{need.indirect} indirect call{'' if need.indirect == 1 else 's'}")
    if need.kernel is not None:
        words.append(f"kernel functions, called with {need.kernel} bytes in use")
    return words


def _tell(stack: Stack, image: Image, names: Iterable[int]) -> Iterator[str]:
    words = _entries(image)
    for start in sorted(names):
        if start in stack.frames:
            need = stack.need(start)
            known = f"{stack.name(start)}(): {need.bytes + words.get(start, 0)} bytes of stack"
            yield ", and not known: ".join([known, *filter(None, [", ".join(unknown(need))])])


def check(
    image: Image,
    joined: Path,
    *,
    limit: int = options.STACK_LIMIT,
    allow: Collection[str] = (),
) -> None:
    """Refuse a kmod that takes more than `limit` bytes of the kernel stack, and warn of what nobody
    can know.  `joined` is the object that the image was made of.
    """
    code = code_of(image)
    # no entry has more words on the stack than the one that has most
    most = limit - max(_entries(image).values(), default=0)
    if log.verbosity() < 1 and stackwalk.is_small(code, most):
        return
    stack, where = Stack(code), _Lines(image, joined)
    for line in _tell(stack, image, _entries(image)):
        log.detail(line)
    if UNKNOWN not in allow:
        _warn(stack, limit, where)
    if TOO_DEEP not in allow:
        _refuse(stack, image, limit, where)


__all__ = ["Frame", "Need", "Stack", "check", "code_of", "unknown"]
