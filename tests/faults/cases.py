# SPDX-License-Identifier: GPL-2.0-only
"""The faults that are tried, and what each comes to, on every kernel."""

from __future__ import annotations

from dataclasses import dataclass, replace

GOES_ON = "goes on"
DAMAGED = "goes on, damaged"
UNSURE = "goes on, for how long is chance"
PANICS = "panics"
HANGS = "hangs"

FREED = "freed"
KEPT = "kept"
NEVER_MIND = "-"  # the machine is gone

KILLED = "SIGKILL"  # by a fault of the memory management, arch/x86/mm/fault.c
SEGMENT = "SIGSEGV"  # by any other, arch/x86/kernel/dumpstack.c
ENDED = "status 0"


@dataclass(frozen=True)
class Case:
    """`fault` and `context` are what the program is started with, in its own order.

    `got`: how the process ended.  `cause`: part of what the kernel calls the fault.  `function`:
    the kmod's, where it is not named like the fault.  `mild`: texts that are in every complaint
    of the kernel, where that is no oops.
    """

    fault: str
    got: str
    cause: str
    context: str = "gate"
    function: str = ""
    machine: str = GOES_ON
    image: str = FREED
    program: str = "faults"
    mild: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return f"{self.context} {self.fault}"

    @property
    def named(self) -> str:
        return self.function or self.fault

    def left_to_chance(self) -> bool:
        return self.machine == UNSURE

    def is_oops(self) -> bool:
        return bool(self.cause) and not self.mild

    def survives(self) -> bool:
        return self.machine == GOES_ON


NULL = "kernel NULL pointer dereference"
PAGE = "unable to handle page fault"
GENERAL = "general protection fault"


def _later(context: str, got: str, machine: str = GOES_ON, image: str = FREED) -> Case:
    return Case(
        "null_read", got, NULL, context, machine=machine, image=image, program="faults_later"
    )


def _fatal(fault: str, cause: str, function: str = "", machine: str = PANICS) -> Case:
    return Case(fault, NEVER_MIND, cause, function=function, machine=machine, image=NEVER_MIND)


CASES = (
    Case("null_read", KILLED, NULL),
    Case("null_write", KILLED, NULL),
    Case("null_call", KILLED, NULL),
    Case("divide", SEGMENT, "divide error"),
    Case("invalid_opcode", SEGMENT, "invalid opcode"),
    Case("bug", SEGMENT, "kernel BUG at"),
    Case("noncanonical_read", SEGMENT, GENERAL),
    Case("noncanonical_call", SEGMENT, GENERAL),
    Case("double_free", SEGMENT, "kernel BUG at mm/slub.c"),
    Case("use_after_vfree", KILLED, PAGE),
    Case("user_read", KILLED, PAGE),
    Case("user_call", KILLED, PAGE),
    Case("write_own_text", KILLED, PAGE),
    Case("write_own_constant", KILLED, PAGE),
    Case("write_kernel_constant", KILLED, PAGE),
    Case("nested", KILLED, NULL, function="innermost"),
    Case("mutex_held", KILLED, NULL),
    Case("spinlock_held", KILLED, NULL),
    Case("warn", ENDED, "WARNING", mild=("warn+0x",)),
    # the count of what the thread holds stays wrong until its end, where that is told again; with
    # full preemption the kernel then trips over its own data
    Case(
        "sleep_in_atomic",
        ENDED,
        "scheduling while atomic",
        machine=UNSURE,
        mild=("while atomic: faults/",),
    ),
    # the file that the thread held is never let go, nor is the image
    Case("null_read", KILLED, NULL, "thread", image=KEPT),
    _later("kernel_thread", ENDED),
    _later("init", KILLED, image=KEPT),
    _later("exit", ENDED, image=KEPT),
    # 6.1 no longer runs what is put into that processor's queue
    _later("work", ENDED, UNSURE),
    _later("timer", NEVER_MIND, PANICS, NEVER_MIND),
    _later("interrupt", NEVER_MIND, PANICS, NEVER_MIND),
    _fatal("breakpoint", "int3"),
    _fatal("smashed_stack", "stack-protector: Kernel stack is corrupted"),
    _fatal("deep_recursion", "stack guard page was hit", "deeper"),
    # or whatever else calls schedule() first
    _fatal("write_kernel_text", "int3", "(?:write_kernel_text|schedule)"),
    _fatal("interrupts_off", "", machine=HANGS),
)

_ELEVATED = ("bracket", "program")
_CALLED = ("null_read", "null_write", "null_call", "divide", "invalid_opcode", "noncanonical_read",
           "noncanonical_call", "double_free", "mutex_held")  # fmt: skip
_OWN = {
    "null_read": SEGMENT,
    "null_write": SEGMENT,
    "null_call": SEGMENT,
    "divide": "SIGFPE",
    "invalid_opcode": "SIGILL",
    "breakpoint": "SIGTRAP",
    "noncanonical_read": SEGMENT,
    "noncanonical_call": SEGMENT,
    "write_kernel_constant": SEGMENT,
    "stack_lost": SEGMENT,
}

# of kmod code that elevated code calls, and of elevated code itself
ELEVATED = tuple(
    case
    for context in _ELEVATED
    for case in (
        *(
            replace(case, context=context)
            for case in CASES
            if case.fault in _CALLED and case.context == "gate"
        ),
        # of these the kernel has a line as of any program, at the most
        *(Case(f"own_{name}", got, "", context, mild=("traps: ",)) for name, got in _OWN.items()),
    )
)

SURVIVED = tuple(case for case in CASES if case.survives())
ALONE = tuple(case for case in CASES if not case.survives())
