# SPDX-License-Identifier: GPL-2.0-only
"""Reads the machine code of a view once, and keeps what the other parts ask about: privileged
instructions, branches, and the instruction around each reference.

capstone disassembles.  Its group `privilege` is nearly what the processor manuals say; the
differences are listed here.  Not for judging: mitigations.py and percpu.py do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kbridge.inspect import tables
from kbridge.inspect.view import Region, View

# Not in capstone 5's group, and privileged all the same: Intel SDM volume 2, AMD APM volume 3.
_ADDED = {
    "in": "port input: needs IOPL",
    "insb": "port input: needs IOPL",
    "insw": "port input: needs IOPL",
    "insd": "port input: needs IOPL",
    "out": "port output: needs IOPL",
    "outsb": "port output: needs IOPL",
    "outsw": "port output: needs IOPL",
    "outsd": "port output: needs IOPL",
    "rdmsr": "reads a model-specific register",
    "clts": "clears CR0.TS",
    "wbnoinvd": "writes all caches back",
    "xsaves": "saves supervisor state",
    "xsaves64": "saves supervisor state",
    "monitor": "waits for a write, at CPL 0",
    "mwait": "waits for a write, at CPL 0",
    "monitorx": "waits for a write, where CR4 or the hypervisor lets user code",
    "mwaitx": "waits for a write, where CR4 or the hypervisor lets user code",
    "encls": "SGX, the system's side",
    "pconfig": "configures memory encryption",
    "setssbsy": "marks a supervisor shadow stack",
    "wrussq": "writes to a user shadow stack",
    "wrussd": "writes to a user shadow stack",
    "sgdt": "reads a descriptor table register: faults in user code under UMIP",
    "sidt": "reads a descriptor table register: faults in user code under UMIP",
    "sldt": "reads a descriptor table register: faults in user code under UMIP",
    "smsw": "reads CR0: faults in user code under UMIP",
    "getsec": "safer mode extensions",
}
# Privileged in no kernel sense; what asks for them in kernel code is odd enough to be named there.
_ENTRIES = {
    "syscall": "enters the kernel, where a kmod is already",
    "sysenter": "enters the kernel, where a kmod is already",
}
# In the group, but any program may execute them.
_NOT_PRIVILEGED = {
    "rdtscp",  # unless CR4.TSD, which Linux sets on request only
}
_WHY = {
    "cli": "switches interrupts off",
    "sti": "switches interrupts on",
    "hlt": "stops the processor until an interrupt",
    "wrmsr": "writes a model-specific register",
    "lgdt": "loads a descriptor table register",
    "lidt": "loads a descriptor table register",
    "lldt": "loads a descriptor table register",
    "ltr": "loads the task register",
    "str": "reads the task register: faults in user code under UMIP",
    "lmsw": "writes CR0",
    "invlpg": "flushes the TLB",
    "invpcid": "flushes the TLB",
    "swapgs": "swaps GS",
    "iretq": "returns from an interrupt",
    "iretd": "returns from an interrupt",
    "sysret": "leaves the kernel",
    "sysretq": "leaves the kernel",
    "sysexit": "leaves the kernel",
    "sysexitq": "leaves the kernel",
    "stac": "lets the kernel reach user memory (SMAP)",
    "clac": "keeps the kernel from user memory (SMAP)",
    "wbinvd": "writes all caches back",
    "invd": "drops all caches",
    "xsetbv": "writes XCR0",
    "xrstors": "restores supervisor state",
    "xrstors64": "restores supervisor state",
    "rdpmc": "reads a performance counter, if CR4.PCE is not set",
    "vmcall": "calls the hypervisor",
    "vmmcall": "calls the hypervisor",
}
_SPECIAL_REGISTER = re.compile(r"\b([cd]r)\d+\b")
_REPLACEMENTS = ".altinstr_replacement"
_BRANCHES = {"call", "jmp", "lcall", "ljmp"}
_CANARY = "gs:[0x28]"  # struct fixed_percpu_data


class Decoded(NamedTuple):
    """An instruction, in Intel's notation."""

    address: int
    size: int
    mnemonic: str
    operands: str

    @property
    def end(self) -> int:
        return self.address + self.size

    @property
    def is_branch(self) -> bool:
        """Whether it is a jump (of any kind) or a call."""
        return self.mnemonic.rpartition(" ")[2].startswith(("call", "j", "lcall", "ljmp"))

    @property
    def is_direct(self) -> bool:
        """Whether the operand is an address; capstone writes those below 10 without 0x."""
        return self.operands[:1].isdigit()


class Privileged(NamedTuple):
    """`at`: the place in the code, for an alternative that of the instruction it replaces."""

    at: int
    mnemonic: str
    text: str
    why: str
    alternative: bool


@dataclass
class Facts:
    """Addresses of the view.  `users`: the instruction around each reference in code."""

    privileged: list[Privileged] = field(default_factory=list)
    returns: list[Decoded] = field(default_factory=list)
    indirect: list[Decoded] = field(default_factory=list)
    direct: list[tuple[Decoded, int]] = field(default_factory=list)  # to a function in `watched`
    taken: set[int] = field(default_factory=set)  # what lea computes the address of
    canaries: set[int] = field(default_factory=set)
    users: dict[int, Decoded] = field(default_factory=dict)


class _Scanner:
    def __init__(self, view: View, kernel: bool, watched: set[int]) -> None:
        import capstone

        self.view, self.kernel, self.watched = view, kernel, watched
        self.facts = Facts()
        self.lite = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
        self.lite.skipdata = True
        self.full = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
        self.full.detail = True
        self.att = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
        self.att.syntax = capstone.CS_OPT_SYNTAX_ATT
        self.group = capstone.CS_GRP_PRIVILEGE
        self.verdicts: dict[str, str] = {}
        none = dict.fromkeys((*_NOT_PRIVILEGED, *_ENTRIES), "")
        self.known = {**none, **_ADDED, **(_ENTRIES if kernel else {})}

    # -- privileged or not --

    def _verdict(self, one: Decoded, code: bytes) -> str:
        """Why the instruction is privileged, '' if it is not; by its mnemonic, but for mov."""
        base = one.mnemonic.rpartition(" ")[2]  # 'rep insb'
        if base == "mov":
            special = _SPECIAL_REGISTER.search(one.operands)
            if special is None:
                return ""
            return "control register" if special[1] == "cr" else "debug register"
        known = self.known.get(base)
        if known is not None:
            return known
        detailed: Any = next(self.full.disasm(code, one.address, 1), None)
        if detailed is None or not detailed.group(self.group):
            return ""
        return _WHY.get(base, "privileged")

    def _judge(self, one: Decoded, code: bytes, at: int | None = None) -> None:
        why = self.verdicts.get(one.mnemonic)
        if why is None:
            why = self._verdict(one, code)
            if one.mnemonic != "mov":
                self.verdicts[one.mnemonic] = why
        if why:
            shown = next(self.att.disasm_lite(code, one.address, 1), None)
            text = " ".join(shown[2:]).strip() if shown else one.mnemonic
            name = one.mnemonic
            special = _SPECIAL_REGISTER.search(one.operands) if name == "mov" else None
            if special:
                name = f"mov {special[0]}"
            place = one.address if at is None else at
            self.facts.privileged.append(Privileged(place, name, text, why, at is not None))

    # -- every instruction --

    def _chunks(self, region: Region) -> Iterator[tuple[int, bytes]]:
        """Code from each function's start to the next: data between them misleads no further."""
        starts = [region.start, *self.view.function_starts(region)]
        ends = [*starts[1:], region.start + len(region.data)]
        for start, end in zip(starts, ends, strict=True):
            if start < end:
                yield start, region.data[start - region.start : end - region.start]

    def _note(self, one: Decoded) -> None:
        facts, mnemonic, operands = self.facts, one.mnemonic, one.operands
        base = mnemonic.rpartition(" ")[2]
        if base in ("ret", "retf", "retfq"):
            facts.returns.append(one)
        elif base in _BRANCHES:
            if not one.is_direct:
                facts.indirect.append(one)
            elif self.watched and ":" not in operands and int(operands, 16) in self.watched:
                facts.direct.append((one, int(operands, 16)))
        elif base == "lea" and "rip" in operands:
            found = re.search(r"\[rip ?([+-]) ?(0x[0-9a-f]+|\d+)\]", operands)
            if found:
                distance = int(found[2], 0)
                facts.taken.add(one.end + (distance if found[1] == "+" else -distance))
        if _CANARY in operands:
            facts.canaries.add(one.address)

    def region(self, region: Region) -> None:
        references = self.view.references_in(region.start, region.end)
        position, count = 0, len(references)
        interesting = {"ret", "retf", "retfq", "lea", *_BRANCHES}
        verdicts = self.verdicts
        for start, code in self._chunks(region):
            for found in self.lite.disasm_lite(code, start):
                address, size, mnemonic, operands = found
                while position < count and references[position].at < address + size:
                    if references[position].at >= address:
                        self.facts.users[references[position].at] = Decoded(*found)
                    position += 1
                # the common case costs two look-ups
                if verdicts.get(mnemonic) != "" and not (
                    mnemonic == "mov" and "cr" not in operands and "dr" not in operands
                ):
                    offset = address - start
                    self._judge(Decoded(*found), code[offset : offset + size])
                if mnemonic in interesting or " " in mnemonic or "gs:" in operands:
                    self._note(Decoded(*found))

    def alternatives(self) -> bool:
        """What the processor may choose instead: attributed to the instruction it replaces."""
        entries = tables.alternatives(self.view)
        for one in entries or ():
            code = self.view.read(one.replacement, one.replacement_size)
            for found in self.lite.disasm_lite(code, one.replacement):
                offset = found[0] - one.replacement
                self._judge(Decoded(*found), code[offset : offset + found[1]], one.at)
        return entries is not None


def scan(view: View, *, kernel: bool, watched: set[int] | None = None) -> Facts:
    """Disassemble everything executable.

    `kernel`: it is kernel code, in which a system call is odd.  `watched`: addresses of functions
    to which direct jumps and calls are wanted.
    """
    scanner = _Scanner(view, kernel, watched or set())
    attributed = scanner.alternatives()
    for region in view.regions:
        if region.executable and not (attributed and region.name == _REPLACEMENTS):
            scanner.region(region)
    scanner.facts.privileged.sort()
    return scanner.facts
