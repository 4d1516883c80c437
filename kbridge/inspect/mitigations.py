# SPDX-License-Identifier: GPL-2.0-only
"""Which mitigations of processor flaws, and which checks, kernel code has, and where it has not.

Counted in the machine code itself, so that it does not matter how it was built.  Beside each
stands whether the kernel is built so: what it does without, its modules need not have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from kbridge.inspect import tables
from kbridge.inspect import view as views
from kbridge.inspect.code import Decoded, Facts
from kbridge.inspect.kernel import Kernel
from kbridge.inspect.report import ABSENT, NOT_APPLICABLE, PRESENT, Mitigation, Site
from kbridge.inspect.view import View
from kbridge.pack import R_32, R_32S, R_64

_INDIRECT_THUNK = "__x86_indirect_"
RETURN_THUNK = "__x86_return_thunk"
_STACK_CHECK = "__stack_chk_fail"
_INT3 = b"\xcc"
_ENDBR = b"\xf3\x0f\x1e\xfa"

# Newest name first.
_SETTINGS = {
    # since Linux commit aefb2f2e619b
    # ("x86/bugs: Rename CONFIG_RETPOLINE => CONFIG_MITIGATION_RETPOLINE", v6.9)
    "retpolines": ("CONFIG_MITIGATION_RETPOLINE", "CONFIG_RETPOLINE"),
    # since Linux commit 0911b8c52c4d
    # ("x86/bugs: Rename CONFIG_RETHUNK => CONFIG_MITIGATION_RETHUNK", v6.9)
    "return thunks": ("CONFIG_MITIGATION_RETHUNK", "CONFIG_RETHUNK"),
    # since Linux commit 7b75782ffd82
    # ("x86/bugs: Rename CONFIG_SLS => CONFIG_MITIGATION_SLS", v6.9)
    "SLS": ("CONFIG_MITIGATION_SLS", "CONFIG_SLS"),
    "IBT": ("CONFIG_X86_KERNEL_IBT",),
    "stack protector": ("CONFIG_STACKPROTECTOR",),
}


@dataclass
class _Code:
    """The sites that the mitigations are about."""

    view: View
    facts: Facts
    external: set[int]  # addresses of functions that others call by pointer or name
    locate: Callable[[int], Site]

    def calls(self, prefix: str) -> list[Decoded]:
        """Jumps and calls to functions whose name starts with `prefix`."""
        found = [
            self.facts.users[one.at]
            for one in self.view.references
            if one.kind == views.IMPORT and one.name.startswith(prefix) and self._branches(one.at)
        ]
        thunks = {f.start for f in self.view.functions if f.name.startswith(prefix)}
        return found + [one for one, target in self.facts.direct if target in thunks]

    def _branches(self, at: int) -> bool:
        user = self.facts.users.get(at)
        return user is not None and user.is_branch

    def naked_branches(self) -> list[Decoded]:
        """Indirect jumps and calls that the kernel does not patch."""
        patched = [
            range(one.at, one.at + max(1, one.size)) for one in tables.alternatives(self.view) or ()
        ]
        places = {address for span in patched for address in span}
        places |= tables.paravirt_sites(self.view)
        return [one for one in self.facts.indirect if one.address not in places]

    def naked_returns(self) -> list[Decoded]:
        """Those of the thunks themselves (in a kernel image) are what it is all about."""
        own = (RETURN_THUNK, "__x86_indirect_", "srso_", "retbleed_", "entry_")
        return [
            one for one in self.facts.returns if not self.view.where(one.address)[0].startswith(own)
        ]

    def sites(self, found: Iterable[Decoded]) -> list[Site]:
        return [self.locate(one.address) for one in found]


def _state(sites: int, total: int) -> str:
    if not total:
        return NOT_APPLICABLE
    return PRESENT if sites == total else ABSENT


def _retpolines(code: _Code) -> Mitigation:
    thunks, naked = code.calls(_INDIRECT_THUNK), code.naked_branches()
    total = len(thunks) + len(naked)
    return Mitigation(
        "retpolines",
        _state(len(thunks), total),
        len(thunks),
        total,
        None,
        "indirect jumps and calls through a thunk" if total else "no indirect jump or call",
        code.sites(naked),
    )


def _return_thunks(code: _Code) -> Mitigation:
    thunks, naked = code.calls(RETURN_THUNK), code.naked_returns()
    total = len(thunks) + len(naked)
    detail = "returns through the thunk" if total else "nothing returns"
    state = _state(len(thunks), total)
    return Mitigation("return thunks", state, len(thunks), total, None, detail, code.sites(naked))


def _sls(code: _Code) -> Mitigation:
    """int3 after what the processor might run past.

    Thunks have theirs; where the kernel replaces a jump to one by the bare instruction it puts an
    int3 behind (arch/x86/kernel/alternative.c, apply_retpolines() and apply_returns()).
    """
    jumps = [one for one in code.naked_branches() if "jmp" in one.mnemonic]
    ends = sorted([*code.naked_returns(), *jumps])
    naked = [one for one in ends if code.view.read(one.end, 1) != _INT3]
    detail = "bare returns and indirect jumps with int3 behind"
    done = len(ends) - len(naked)
    return Mitigation(
        "SLS",
        _state(done, len(ends)),
        done,
        len(ends),
        None,
        detail if ends else "no bare return or indirect jump",
        code.sites(naked),
    )


def _taken(code: _Code) -> set[int]:
    """Addresses that code or data holds; tables that the kernel only reads do not count."""
    found = set(code.facts.taken)
    for reference in code.view.references:
        if reference.kind == views.INSIDE and reference.type in (R_64, R_32S, R_32):
            region = code.view.region_at(reference.at)
            held = (
                region is None or region.executable or region.name.startswith((".data", ".rodata"))
            )
            if held:
                found.add(reference.value)
    return found


def _ibt(code: _Code) -> Mitigation:
    wanted = code.external | _taken(code)
    functions = {
        function.start: function.name
        for function in reversed(code.view.functions)
        if function.start in wanted and not function.name.startswith(views.PADDING)
    }
    naked = [start for start in functions if code.view.read(start, 4) != _ENDBR]
    done, total = len(functions) - len(naked), len(functions)
    detail = "functions that a pointer may reach start with endbr64"
    sites = [code.locate(start) for start in sorted(naked)]
    return Mitigation("IBT", _state(done, total), done, total, None, detail, sites)


def _stack_protector(code: _Code) -> Mitigation:
    """Which function needs a canary is the compiler's choice: none is no proof of a fault."""
    places = {one.address for one in code.calls(_STACK_CHECK)} | code.facts.canaries
    functions = {code.view.where(place)[0] for place in places}
    detail = (
        "functions with a canary" if functions else "no function checks a canary; none may need to"
    )
    state = PRESENT if functions else ABSENT
    return Mitigation("stack protector", state, len(functions), len(functions), None, detail)


def find(
    view: View, facts: Facts, kernel: Kernel, external: set[int], locate: Callable[[int], Site]
) -> list[Mitigation]:
    """Every mitigation, in the order of the table above."""
    code = _Code(view, facts, external, locate)
    found = [
        _retpolines(code), _return_thunks(code), _sls(code), _ibt(code), _stack_protector(code),
    ]  # fmt: skip
    return [
        Mitigation(**{**vars(one), "kernel": kernel.is_set(*_SETTINGS[one.name])}) for one in found
    ]
