# SPDX-License-Identifier: GPL-2.0-only
"""What functions take of the stack, from objects that gcc and as make here; gcc's own word for it,
-fstack-usage, is the oracle."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from kbridge import log, pack, stack, stackwalk
from kbridge.errors import KbridgeError

FLAGS = [
    "-O2", "-g", "-fno-asynchronous-unwind-tables", "-mno-red-zone", "-fcf-protection=none",
    "-mpreferred-stack-boundary=3", "-mno-sse", "-mcmodel=kernel", "-fno-pie",
    "-fno-stack-protector",
]  # fmt: skip
HEAD = """
#define noinline __attribute__((noinline, noclone))
extern int printk(const char *, ...);
void use(void *);
"""


def compiled(folder: Path, source: str, *flags: str, suffix: str = ".c") -> Path:
    file = folder / f"kmod{suffix}"
    file.write_text((HEAD if suffix == ".c" else "") + source)
    output = folder / "kmod.o"
    command = ["gcc", *FLAGS, *flags, "-c", "-o", output, file.name]
    subprocess.run(command, check=True, cwd=folder)
    return output


def analysed(object_: Path) -> tuple[stack.Stack, dict[str, int]]:
    """The stack of an object's functions, and where they are."""
    image = pack.pack(object_)
    found = stack.Stack(stack.code_of(image))
    return found, {found.name(start): start for start in found.frames}


def circles(found: stack.Stack) -> list[list[str]]:
    """Each from the name that is first in the alphabet: compilers order functions as they like."""
    circles = []
    for circle in found.circles:
        names = [found.name(step.function) for step in circle]
        first = names.index(min(names))
        circles.append(names[first:] + names[:first])
    return circles


CHAIN = """
static noinline int third(int n) { char b[300]; use(b); return b[n] + n; }
static noinline int second(int n) { char b[200]; use(b); return third(n) + b[n]; }
int first(int n) { char b[100]; use(b); return second(n) + second(n + 1) + b[n]; }
int alone(int n) { return n + 1; }
int two(int n) { if (n > 3) { char b[900]; use(b); return b[n] + 1; } return alone(n); }
"""


@pytest.mark.parametrize("flags", [(), ("-Os",), ("-O0",), ("-fno-omit-frame-pointer",)])
def test_frames_are_those_of_gcc(tmp_path: Path, flags: tuple[str, ...]) -> None:
    found, at = analysed(compiled(tmp_path, CHAIN, *flags, "-fstack-usage"))
    said = {}
    for line in (tmp_path / "kmod.su").read_text().splitlines():
        place, size, kind = line.split("\t")
        assert kind == "static"
        said[place.split(":")[-1]] = int(size)
    assert set(said) == set(at) == {"first", "second", "third", "alone", "two"}
    for name, start in at.items():
        # gcc counts the return address to the function, and not that of its callees
        calls = bool(found.frames[start].calls or found.frames[start].kernel)
        assert found.frames[start].most == said[name] - 8 + 8 * calls


def test_the_deepest_path(tmp_path: Path) -> None:
    found, at = analysed(compiled(tmp_path, CHAIN))
    path = found.path(at["first"])
    assert [found.name(step.function) for step in path] == ["first", "second", "third"]
    assert sum(step.used for step in path) == found.depth(at["first"])
    assert found.depth(at["first"]) >= 600
    assert found.depth(at["alone"]) == 0
    need = found.need(at["first"])
    assert need.bytes == need.kernel == found.depth(at["first"])  # third() calls use() last
    assert not need.recursion
    assert not need.grows
    assert not need.indirect
    assert stack.unknown(need) == [f"kernel functions, called with {need.kernel} bytes in use"]
    assert stack.unknown(found.need(at["alone"])) == []


RECURSION = {
    "direct": (
        "int walk(int n) { char b[64]; use(b); return n ? walk(n - 1) * walk(n - 2) + b[n] : 0; }",
        [["walk"]],
    ),
    "mutual": (
        "int odd(int n);\n"
        "noinline int even(int n) { use(&n); n = n ? odd(n - 1) : 1; use(&n); return n; }\n"
        "noinline int odd(int n) { use(&n); n = n ? even(n - 1) : 0; use(&n); return n; }",
        [["even", "odd"]],
    ),
    "a loop": ("int last(int n, int m) { return n ? last(n - 1, m + n) : m; }", []),
    "jumps": (
        "int odd(int n);\n"
        "noinline int even(int n) { return n ? odd(n - 1) : 1; }\n"
        "noinline int odd(int n) { return n ? even(n - 1) : 0; }",
        [],
    ),
    "three and one": (
        "int b(int n), c(int n);\n"
        "noinline int a(int n) { use(&n); return n ? b(n - 1) + 1 : n; }\n"
        "noinline int b(int n) { use(&n); return n ? c(n - 1) + 1 : n; }\n"
        "noinline int c(int n) { use(&n); return n ? a(n - 1) + 1 : n; }\n"
        "int outside(int n) { use(&n); return a(n) + 1; }",
        [["a", "b", "c"]],
    ),
}


@pytest.mark.parametrize("name", RECURSION)
def test_recursion(tmp_path: Path, name: str) -> None:
    source, wanted = RECURSION[name]
    flags = ["-fno-optimize-sibling-calls"] if wanted else []
    object_ = compiled(tmp_path, source, "-fno-inline", "-fno-ipa-icf", "-fno-ipa-cp", *flags)
    found, at = analysed(object_)
    assert circles(found) == wanted
    for function in set(at) & {"outside"}:
        (known,) = found.need(at[function]).recursion
        assert sorted(known) == ["a", "b", "c"]
    # a circle is gone round once
    assert all(found.depth(start) < 1000 for start in at.values())
    small = stackwalk.is_small(stack.code_of(pack.pack(object_)), 4096)
    assert not (small and wanted)


def test_sizes_that_nobody_knows(tmp_path: Path) -> None:
    source = """
    int array(int n) { char b[n]; use(b); return b[0]; }
    int taken(int n) { char *b = __builtin_alloca(n); use(b); return b[0]; }
    int known(int n) { char *b = __builtin_alloca(64); use(b); return b[n]; }
    int aligned(int n) { char b[64] __attribute__((aligned(64))); use(b); return b[n]; }
    int calls(int n) { use(&n); return array(n) + 1; }
    """
    found, at = analysed(compiled(tmp_path, source, "-fno-inline"))
    grow = {found.name(start) for start, frame in found.frames.items() if frame.grows}
    assert grow == {"array", "taken"}
    assert found.need(at["calls"]).grows == ["array"]
    assert 64 + 64 - 8 <= found.depth(at["aligned"]) <= 64 + 64 + 40


ASSEMBLY = """
    .macro function name
    .globl \\name
    .type \\name, @function
\\name:
    .endm
    .macro end name
    .size \\name, . - \\name
    .endm
    .text
    function tail
    sub $24, %rsp
    add $24, %rsp
    jmp deep
    end tail
    function jumps_within
    push %rbx
    jmp deep
    end jumps_within
    function deep
    sub $1000, %rsp
    lea 1000(%rsp), %rsp
    ret
    end deep
    function falls
    push %rbx
    end falls
    function into
    sub $80, %rsp
    add $80, %rsp
    ret
    end into
    function with_cold
    push %rbx
    test %edi, %edi
    jne with_cold.cold
1:  pop %rbx
    ret
    end with_cold
    function thunk
    sub $40, %rsp
    call __x86_indirect_thunk_rax
    call *%rax
    call *8(%rdi)
    call printk
    add $40, %rsp
    jmp __x86_indirect_thunk_rdx
    end thunk
    function switch
    push %rbp
    jmp *table(,%rdi,8)
2:  pop %rbp
    jmp __x86_return_thunk
3:  sub $120, %rsp
    add $120, %rsp
    pop %rbp
    jmp __x86_return_thunk
    end switch
    function static
    nopl 0(%rax,%rax)
    jmp __x86_return_thunk
4:  push %rbp
    call deep
    pop %rbp
    jmp __x86_return_thunk
    end static
    function pushes
5:  push $0
    dec %edi
    jnz 5b
    leave
    ret
    end pushes
    function dies
    sub $16, %rsp
    call __stack_chk_fail
    end dies
    function traced
    call __fentry__
    push %rax
    pop %rax
    ret
    end traced
    function __SCT__there
    jmp deep
    end __SCT__there
    function static_call
    call __SCT__there
    ret
    end static_call
    function after
    sub $32, %rsp
    add $32, %rsp
    ret
    end after
    function restores
    mov %rsp, %rax
    sub $100, %rsp
    and $-64, %rsp
    mov %rax, 8(%rsp)
    mov 8(%rsp), %rsp
    ret
    end restores
    function probes
    lea -0x5000(%rsp), %r11
6:  sub $0x1000, %rsp
    orq $0, (%rsp)
    cmp %r11, %rsp
    jne 6b
    add $0x5000, %rsp
    ret
    end probes
    function computes
    mov %rsp, %rax
    sub %rdi, %rax
    mov %rax, %rsp
    leave
    ret
    end computes
    .section .text.unlikely, "ax", @progbits
    .type with_cold.cold, @function
with_cold.cold:
    sub $48, %rsp
    add $48, %rsp
    jmp 1b
    .size with_cold.cold, . - with_cold.cold
    .section __jump_table, "aw", @progbits
    .long static - ., 4b - .
    .quad 0
    .data
table: .quad 2b, 3b
"""


def test_what_assembly_can_do(tmp_path: Path) -> None:
    found, at = analysed(compiled(tmp_path, ASSEMBLY, suffix=".S"))
    deep = {name: found.depth(start) for name, start in at.items()}
    wanted = {
        "tail": 1000, "jumps_within": 1008, "deep": 1000, "falls": 88, "into": 80,
        "with_cold": 56, "thunk": 48, "switch": 128, "static": 1016, "dies": 24, "after": 32,
        "restores": 156,
    }  # fmt: skip
    assert {name: deep[name] for name in wanted} == wanted
    assert deep["probes"] >= 0x5000
    need = found.need(at["thunk"])
    assert need.indirect == 4
    assert need.kernel == 48
    assert found.need(at["switch"]).indirect == 0
    assert found.need(at["dies"]).kernel is None
    assert found.need(at["traced"]).kernel is None
    assert deep["traced"] == 8
    assert deep["static_call"] == 1008
    assert found.need(at["static_call"]).indirect == 1
    grow = {found.name(start) for start, frame in found.frames.items() if frame.grows}
    assert {"pushes", "computes"} <= grow
    assert grow <= {"pushes", "computes", "probes"}
    assert circles(found) == []


MODELS = {"pic": ["-fPIC", "-fvisibility=hidden"], "got": ["-fPIC"], "kernel": []}


@pytest.mark.parametrize("model", MODELS)
def test_code_models_say_the_same(tmp_path: Path, model: str) -> None:
    flags = MODELS[model] + (["-mcmodel=small"] if MODELS[model] else [])
    found, at = analysed(compiled(tmp_path, CHAIN, *flags))
    names = [found.name(step.function) for step in found.path(at["first"])]
    assert names == ["first", "second", "third"]
    assert found.need(at["first"]).indirect == 0


def check(object_: Path, limit: int = 10240, allow: tuple[str, ...] = ()) -> None:
    stack.check(pack.pack(object_), object_, limit=limit, allow=allow)


def test_too_deep_is_refused_with_the_path(tmp_path: Path) -> None:
    object_ = compiled(tmp_path, CHAIN)
    need, at = analysed(object_)
    depth = max(map(need.depth, at.values()))
    check(object_, depth)
    with pytest.raises(KbridgeError) as caught:
        check(object_, 400)
    said = caught.value.message
    assert said.startswith("kmod.c:10: two() takes 9")  # the deepest that the app can call
    with pytest.raises(KbridgeError) as caught:
        check(compiled(tmp_path, CHAIN.replace("900", "9")), 400)
    said = caught.value.message
    assert said.startswith("kmod.c:8: first() takes 6")
    assert "of which a kmod has 400: first() 1" in said
    assert "(kmod.c:8) -> second() 2" in said
    assert "(kmod.c:7) -> third() 3" in said
    assert said.endswith("(kmod.c:6) (class stack)")
    assert "kmalloc()" in str(caught.value.hint)
    assert "--stack-limit" in str(caught.value.hint)
    check(object_, 400, ("stack",))


def test_words_of_a_gate_count(tmp_path: Path) -> None:
    words = ", ".join(f"long a{number}" for number in range(6 + 40))
    object_ = compiled(tmp_path, f"long many({words}) {{ use(&a0); return a45; }}")
    check(object_, 8 * 40 + 100)
    with pytest.raises(KbridgeError, match="the gate's words 320"):
        check(object_, 8 * 40)


def test_warnings_name_circle_and_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["-fno-inline", "-fno-optimize-sibling-calls"]
    source = RECURSION["mutual"][0] + "\nint array(int n) { char b[n]; use(b); return b[0]; }"
    object_ = compiled(tmp_path, source, *flags)
    check(object_)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    ways = (
        "kmod.c:6: .*: even() calls odd() (kmod.c:7), which calls even();",
        "kmod.c:7: .*: odd() calls even() (kmod.c:6), which calls odd();",
    )
    shown = [re.escape(way).replace(r"\.\*", "recursion, whose depth is not known") for way in ways]
    assert re.search("|".join(shown), lines[0])
    assert " each turn takes " in lines[0]
    assert "kmod.c:8: in array(): takes a number of bytes" in lines[1]
    assert all(line.endswith("(class stack-unknown)") for line in lines)
    check(object_, allow=("stack-unknown",))
    assert not capsys.readouterr().err


def test_verbose_says_what_each_gate_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    object_ = compiled(tmp_path, CHAIN + "int through(int (*f)(void)) { return f() + 1; }")
    check(object_)
    assert not capsys.readouterr().err
    monkeypatch.setattr(log, "_verbosity", 1)
    check(object_)
    said = capsys.readouterr().err
    assert "kbridge: alone(): 0 bytes of stack\n" in said
    assert "through(): 8 bytes of stack, and not known: 1 indirect call\n" in said


SETS = [
    "mov %rax, %rsp", "mov (%rax), %rsp", "mov 8(%rsp), %rsp", "lea 8(%rbp), %rsp",
    "lea (%rsp,%rax), %rsp", "lea (%rsp,%r9,8), %rsp", "sub %rcx, %rsp", "sub %r9, %rsp",
    "add %rcx, %rsp", "sub (%rax), %rsp", "and $-16, %rsp", "and $-1024, %rsp",
    "xchg %rax, %rsp", "xchg %rcx, %rsp", "xchg (%rcx), %rsp",
    "lea 4(%rax), %rsp", "mov %r10, %rsp",
]  # fmt: skip
SUBTRACTS = [
    "sub $0x1000, %rsp", "add $-0x1000, %rsp", "lea -0x1000(%rsp), %rsp",
    ".rept 32; sub $0x70, %rsp; .endr", ".rept 32; add $-128, %rsp; .endr",
    ".rept 32; lea -0x78(%rsp), %rsp; .endr", ".rept 512; push %rax; .endr",
    ".rept 512; push %r9; .endr", ".rept 512; push $1; .endr", ".rept 512; push $1000; .endr",
    ".rept 512; push (%rax); .endr", ".rept 512; push 8(%r9); .endr", ".rept 512; pushf; .endr",
    ".rept 512; call g; .endr", ".rept 512; call *%rax; .endr", ".rept 512; call *8(%r9); .endr",
]  # fmt: skip


@pytest.mark.parametrize("line", SETS + SUBTRACTS)
def test_no_such_instruction_counts_as_small(tmp_path: Path, line: str) -> None:
    frame = "\n.globl f\n.type f, @function\nf: {}\nret\n.size f, . - f\n"
    code = stack.code_of(pack.pack(compiled(tmp_path, frame.format(line), suffix=".S")))
    assert not stackwalk.is_small(code, 2000)
    code = stack.code_of(pack.pack(compiled(tmp_path, frame.format("push %rax"), suffix=".S")))
    assert stackwalk.is_small(code, 8)


COLD = """
    .text
    .type other, @function
other: ret
    .size other, . - other
    .type f, @function
f:  push %rbx
    jne f.cold
1:  pop %rbx
    ret
    .size f, . - f
    .section .text.unlikely, "ax", @progbits
    .type g.cold, @function
g.cold: ud2
    .size g.cold, . - g.cold
    .type f.cold, @function
f.cold: call f
    jmp 1b
    .size f.cold, . - f.cold
"""


def test_recursion_by_way_of_a_cold_part(tmp_path: Path) -> None:
    object_ = compiled(tmp_path, COLD, suffix=".S")
    found, _ = analysed(object_)
    assert circles(found) == [["f"]]
    assert not stackwalk.is_small(stack.code_of(pack.pack(object_)), 4096)
    object_ = compiled(tmp_path, COLD.replace("call f", "call other"), suffix=".S")
    assert circles(analysed(object_)[0]) == []
    assert stackwalk.is_small(stack.code_of(pack.pack(object_)), 4096)
