# SPDX-License-Identifier: GPL-2.0-only
"""kbridge inspect on objects that are compiled here, without a kernel; binutils is the oracle."""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Kbridge

from kbridge import inspect, paths
from kbridge.errors import KbridgeError, UsageError
from kbridge.inspect import program, report
from kbridge.inspect.kernel import Kernel
from kbridge.inspect.symbols import Needed, find
from kbridge.inspect.view import Region, View
from kbridge.kernels.headers import Export
from kbridge.symbols.table import Symbol, SymbolTable
from kbridge.verbs import inspect as verb

ROOT = Path(__file__).parents[2]
FLAGS = ["-O2", "-g", "-mcmodel=kernel", "-fno-pie", "-fno-asynchronous-unwind-tables"]
FLAGS += ["-mno-red-zone", "-fcf-protection=none", "-fno-builtin", "-fno-stack-protector"]

Compile = Callable[..., Path]


@pytest.fixture
def compiled(tmp_path: Path) -> Compile:
    def compile_(source: str, *flags: str, suffix: str = ".c") -> Path:
        file, output = tmp_path / f"kmod{suffix}", tmp_path / "kmod.o"
        file.write_text(source)
        subprocess.run(["gcc", *FLAGS, *flags, "-c", "-o", output, file], check=True)
        return output

    return compile_


@pytest.fixture(autouse=True)
def no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tested here needs none; commands that a test starts see this machine's."""
    monkeypatch.setattr(inspect.kernels, "facts", lambda *_: Kernel())


def output(*argv: str | Path) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


# -- the structure in a linked program --


def test_the_structure_is_that_of_the_header(tmp_path: Path) -> None:
    fields = (*program._POINTERS, *program._NUMBERS)
    words = [f"__builtin_offsetof(struct kelevate_image, {name})" for name in fields]
    source = tmp_path / "x.c"
    source.write_text(f"#include <kelevate.h>\nint x[] = {{ KELEVATE_ABI, {', '.join(words)} }};\n")
    folder = paths.source("kernel", "kelevate")
    compiled = output("gcc", f"-I{folder}", "-S", "-o", "-", source)
    abi, *offsets = [int(word) for word in re.findall(r"\.long\s+(\d+)", compiled)]
    assert abi == program._ABI
    start = program._HEAD.size
    assert start == 56
    expected = [start + 8 * index for index in range(len(program._POINTERS))]
    expected += [expected[-1] + 8 + 4 * index for index in range(len(program._NUMBERS))]
    assert offsets == expected


# -- kernel symbols --


def test_symbols_are_those_of_nm(compiled: Compile) -> None:
    made = compiled(
        "extern int printk(const char *, ...); extern long jiffies; extern char __this_module[];"
        "extern int maybe(void) __attribute__((weak)); static long own = 3;"
        'int f(void) { own++; return maybe ? maybe() : printk("%ld %p", jiffies, __this_module); }'
    )
    listed = {line.split()[-1] for line in output("nm", "-u", made).splitlines()}
    found = {one.name: one for one in inspect.inspect(made).symbols}
    assert set(found) == listed - {"__this_module"}
    assert [name for name, one in found.items() if one.weak] == ["maybe"]
    assert {one.provider for one in found.values()} <= {"vmlinux", ""}


TABLE = SymbolTable(
    [
        Symbol(0x0, "A", "__per_cpu_start"),
        Symbol(0x100, "A", "per_cpu_data"),
        Symbol(0x1000, "A", "__per_cpu_end"),
        Symbol(0xFFFFFFFF81000000, "T", "function"),
        Symbol(0xFFFFFFFF81000010, "t", "shadowed"),
        Symbol(0xFFFFFFFF81000020, "t", "twice"),
        Symbol(0xFFFFFFFF81000030, "t", "twice"),
        Symbol(0xFFFFFFFF82000000, "D", "variable"),
    ],
    "6.1",
    "ab",
    "test",
)
EXPORTS = {
    "function": Export("vmlinux", True, ""),
    "shadowed": Export("some_module", False, "SPACE"),
    "of_module": Export("other", True, ""),
}


def test_what_a_symbol_is() -> None:
    names = [
        "function",
        "variable",
        "per_cpu_data",
        "shadowed",
        "of_module",
        "twice",
        "functoin",
    ]
    needed = [Needed(name, False) for name in names]
    needed += [Needed("weak", True), Needed("noted", False, "its_module")]
    kernel = Kernel("6.1", EXPORTS, {}, TABLE)
    found = {one.name: one for one in find(needed, kernel, View(), inspect.code.Facts())}
    seen = {
        name: (one.type, one.status, one.provider, one.exported, one.gpl_only)
        for name, one in found.items()
    }
    assert seen == {
        "function": ("function", "found", "vmlinux", True, True),
        "variable": ("data", "found", "vmlinux", False, False),
        "per_cpu_data": ("per-CPU", "found", "vmlinux", False, False),
        "shadowed": ("unknown", "found", "some_module", True, False),
        "of_module": ("unknown", "found", "other", True, True),
        "twice": ("unknown", "ambiguous", "vmlinux", False, False),
        "functoin": ("unknown", "missing", "", False, False),
        "weak": ("unknown", "absent", "", False, False),
        "noted": ("unknown", "missing", "its_module", False, False),
    }
    assert found["functoin"].candidates == ["function"]
    assert len(found["twice"].candidates) == 2
    assert found["shadowed"].namespace == "SPACE"
    assert list(found) == sorted(found)


def test_without_a_kernel_nothing_is_claimed() -> None:
    found = find([Needed("function", False)], Kernel(), View(), inspect.code.Facts())
    assert [(one.status, one.exported, one.provider) for one in found] == [("unknown", None, "")]


# -- instructions --

PRIVILEGED = """
cli|sti|hlt|rdmsr|wrmsr|lgdt (%rax)|lidt (%rax)|sgdt (%rax)|sidt (%rax)|lldt %ax|ltr %ax|str %eax
sldt %eax|lmsw %ax|smsw %eax|clts|invlpg (%rax)|invpcid (%rax), %rcx|swapgs|iretq|sysretq|sysretl
sysenter|sysexit|syscall|stac|clac|wbinvd|invd|wbnoinvd|xsetbv|monitor|mwait|rdpmc|inb %dx, %al
inl $0x10, %eax|outb %al, %dx|insb|outsl|rep insb|rep outsw|mov %rax, %cr3|mov %cr0, %rbx
mov %rax, %cr8|mov %rax, %db7|mov %db6, %rax|vmcall|vmmcall|vmrun|vmlaunch|vmxon (%rax)
xsaves (%rdi)|xrstors (%rdi)|encls|pconfig|rsm|invept (%rax), %rcx|stgi|clgi|getsec
setssbsy|monitorx|mwaitx
"""
HARMLESS = """
nop|mov %rax, %rbx|pushfq|popfq|rdtsc|rdtscp|cpuid|lfence|mfence|ud2|int3|pause|rdrand %rax
xgetbv|fxsave (%rax)|lock incl (%rax)|rep movsb|mov %gs:0x10, %rax|wrfsbase %rax|verr %ax|leave
"""


def split(text: str) -> list[str]:
    return [word.strip() for word in re.split(r"[|\n]", text) if word.strip()]


def in_functions(instructions: list[str]) -> str:
    lines = [".text"]
    for index, instruction in enumerate(instructions):
        name = f"f{index}"
        lines += [f".globl {name}", f".type {name}, @function", f"{name}: nop", instruction]
        lines += ["jmp other", f".size {name}, . - {name}"]
    return "\n".join([*lines, ""])


def test_privileged_instructions(compiled: Compile) -> None:
    wanted = split(PRIVILEGED)
    everything = [*wanted, *split(HARMLESS)]
    made = compiled(in_functions(everything), suffix=".S")
    found = {one.site.function: one for one in inspect.inspect(made).privileged}
    missed = [text for index, text in enumerate(wanted) if f"f{index}" not in found]
    assert not missed
    extra = [everything[int(name[1:])] for name in found if int(name[1:]) >= len(wanted)]
    assert not extra
    assert {one.site.offset for one in found.values()} == {1}
    assert all(one.why and one.text and one.site.line for one in found.values())
    # binutils reads the same instruction at the same place
    listing = output("objdump", "-d", "--no-show-raw-insn", made)
    for name, one in found.items():
        lines = re.search(rf"<{name}>:\n.*\n\s+[0-9a-f]+:\s+(.*)", listing)
        assert lines is not None
        theirs = set(re.findall(r"[a-z]{2,}", lines[1]))
        mine = {word.removesuffix("q") for word in re.findall(r"[a-z]{2,}", one.text)}
        assert mine & ({word.removesuffix("q") for word in theirs} | {"sysret", "xsaves"})


def test_system_calls_are_odd_in_kernel_code_only(tmp_path: Path) -> None:
    (tmp_path / "a.S").write_text(".globl _start\n_start: syscall\nhlt\n")
    subprocess.run(["gcc", "-nostdlib", "-o", "a", "a.S"], cwd=tmp_path, check=True)
    found = inspect.inspect(tmp_path / "a")
    assert found.kind == "other"
    assert [one.mnemonic for one in found.privileged] == ["hlt"]
    assert not found.mitigations
    assert not found.residue


def test_a_jump_to_the_start_of_an_image_is_direct() -> None:
    code = bytes.fromhex("90 eb fd ff 20 ff e0")  # nop; jmp 0; jmp *(%rax); jmp *%rax
    view = View([Region(".text", 0, len(code), True, code)]).finish()
    found = inspect.code.scan(view, kernel=True)
    assert [one.address for one in found.indirect] == [3, 5]


@pytest.mark.parametrize("entry", ["12", "14"])
def test_an_alternative_belongs_to_the_instruction_it_replaces(
    compiled: Compile, entry: str
) -> None:
    feature = ".word 5" if entry == "12" else ".long 5"
    made = compiled(
        ".text\n.type f, @function\nf: push %rbx\n1: nop; nop; nop\nret\n.size f, . - f\n"
        '.section .altinstr_replacement, "ax"\n2: stac\n3:\n'
        f'.section .altinstructions, "a"\n.long 1b - ., 2b - .\n{feature}\n.byte 3, 3b - 2b\n',
        suffix=".S",
    )
    found = inspect.inspect(made)
    assert [(one.mnemonic, one.site.function, one.site.offset) for one in found.privileged] == [
        ("stac", "f", 1)
    ]
    assert found.privileged[0].alternative
    rows = {row.section: row for row in found.residue}
    assert (rows[".altinstructions"].entries, rows[".altinstructions"].bytes) == (1, int(entry))


# -- per-CPU data --


def test_per_cpu_variables(compiled: Compile) -> None:
    made = compiled(
        '__attribute__((section(".data..percpu"))) long first, second, idle;'
        "extern long kernels; long *f(void) { return &second; } "
        'void g(void) { asm volatile("cmpl $5, %%gs:first(%%rip)" ::: "memory"); }'
        'long h(void) { long x; asm("mov %%gs:kernels(%%rip), %0" : "=r" (x)); return x; }'
        "long *other = &first;"
    )
    found = {(one.name, one.own): one.functions for one in inspect.inspect(made).percpu}
    assert found == {
        ("first", True): [".data", "g"],
        ("second", True): ["f"],
        ("idle", True): [],
        ("kernels", False): ["h"],
    }


def test_a_use_in_a_replacement_is_the_functions(compiled: Compile) -> None:
    made = compiled(
        '.section .data..percpu, "aw"\n.type v, @object\nv: .quad 0\n.size v, 8\n'
        ".text\n.type f, @function\nf: 1: .nops 9\n2: ret\n.size f, . - f\n"
        '.section .altinstr_replacement, "ax"\n3: mov %gs:v, %rax\n4:\n'
        '.section .altinstructions, "a"\n.long 1b - ., 3b - ., 5\n.byte 2b - 1b, 4b - 3b\n',
        suffix=".S",
    )
    assert [(one.name, one.functions) for one in inspect.inspect(made).percpu] == [("v", ["f"])]


def test_padding_is_no_function(compiled: Compile) -> None:
    made = compiled(
        '.section .init.text, "ax"\n.type __pfx_f, @function\n__pfx_f: .nops 16\n'
        ".size __pfx_f, 16\n.globl f\n.type f, @function\nf: ret\n.size f, 1\n",
        suffix=".S",
    )
    found = inspect.inspect(made)
    assert found.image is not None
    assert found.image.functions == 1
    assert [(row.section, row.entries) for row in found.residue] == [(".init.text", 1)]
    assert {one.name: one.total for one in found.mitigations}["IBT"] == 1


# -- mitigations --

CALLS = """
extern int other(int); int (*volatile pointer)(int);
static int kept(int x) { return other(x) + 1; }
void set(void) { pointer = kept; }
int call(int x) { return pointer(x) + 1; }
int jump(int x) { return pointer(x); }
int array(int x) { volatile char text[64]; text[x] = 1; other((int)(long)text); return text[x]; }
"""
THUNKS = ["-mindirect-branch=thunk-extern", "-mindirect-branch-register"]
RETURNS = ["-mfunction-return=thunk-extern"]
CANARY = ["-fstack-protector-strong", "-mstack-protector-guard=tls"]
CANARY += ["-mstack-protector-guard-reg=gs", "-mstack-protector-guard-offset=40"]
NOTHING = ("not applicable", 0, 0)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], [("absent", 0, 2), ("absent", 0, 4), ("absent", 0, 5), ("absent", 0, 5)]),
        (THUNKS, [("present", 2, 2), ("absent", 0, 4), ("absent", 0, 4), ("absent", 0, 5)]),
        (RETURNS, [("absent", 0, 2), ("present", 4, 4), ("absent", 0, 1), ("absent", 0, 5)]),
        ([*THUNKS, *RETURNS], [("present", 2, 2), ("present", 4, 4), NOTHING, ("absent", 0, 5)]),
        (
            ["-mharden-sls=all", "-fcf-protection=branch"],
            [("absent", 0, 2), ("absent", 0, 4), ("present", 5, 5), ("present", 5, 5)],
        ),
    ],
)
def test_mitigations(
    compiled: Compile, flags: list[str], expected: list[tuple[str, int, int]]
) -> None:
    made = compiled(CALLS, *flags)
    found = {one.name: one for one in inspect.inspect(made).mitigations}
    names = ["retpolines", "return thunks", "SLS", "IBT"]
    assert [(found[n].state, found[n].sites, found[n].total) for n in names] == expected
    assert all(len(found[n].naked) == found[n].total - found[n].sites for n in names)
    assert found["stack protector"].state == "absent"
    # the same counts, in objdump's reading
    listing = output("objdump", "-dr", "--no-show-raw-insn", made)
    naked_returns = len(re.findall(r"\sret\s*$", listing, re.MULTILINE))
    assert len(found["return thunks"].naked) == naked_returns
    assert len(found["retpolines"].naked) == len(re.findall(r"(?:call|jmp)\s+\*", listing))
    assert found["return thunks"].sites == listing.count("__x86_return_thunk")
    assert found["retpolines"].sites == listing.count("__x86_indirect_thunk")
    assert found["IBT"].sites == listing.count("endbr64")


def test_stack_protector(compiled: Compile) -> None:
    made = compiled(CALLS, *CANARY)
    found = {one.name: one for one in inspect.inspect(made).mitigations}["stack protector"]
    assert (found.state, found.sites) == ("present", 1)


# -- special sections --

SECTIONS = """
.text
.type f, @function
f: ud2
ret
.size f, . - f
.section __bug_table, "aw"
.long f - ., 0
.word 7, 0
.section __ex_table, "a"
.long f - ., f - ., 1, f - ., f - ., 1
.section __jump_table, "aw"
.long f - ., f - .
.quad 0
.section .smp_locks, "a"
.long f - ., f - .
.section __tracepoints_ptrs, "a"
.long 0, 0, 0
.section .init_array, "aw"
.quad f
.section odd, "aw"
.quad f
.section .init.text, "ax"
.type g, @function
g: ret
.size g, . - g
"""


def test_special_sections(compiled: Compile) -> None:
    made = compiled(SECTIONS, suffix=".S")
    found = {row.section: row for row in inspect.inspect(made).residue}
    seen = {name: (row.entries, row.fate) for name, row in found.items()}
    assert seen == {
        "__bug_table": (1, "finished"),
        "__ex_table": (2, "finished"),
        "__jump_table": (1, "finished"),
        ".smp_locks": (2, "left out"),
        "__tracepoints_ptrs": (3, "inert"),
        ".init_array": (1, "refused"),
        "odd": (None, "refused"),
        ".init.text": (1, "placed"),
    }
    sizes = dict(
        re.findall(
            r"\] (\S+)\s+\S+\s+[0-9a-f]+ [0-9a-f]+ ([0-9a-f]+)", output("readelf", "-SW", made)
        )
    )
    assert {name: row.bytes for name, row in found.items()} == {
        name: int(sizes[name], 16) for name in found
    }
    assert "--allow" not in found["odd"].why
    assert "class section" in found["odd"].why
    assert all(row.why for row in found.values())


def test_a_bug_table_that_points_elsewhere_has_no_entries(compiled: Compile) -> None:
    made = compiled(SECTIONS.replace("ud2", "nop"), suffix=".S")
    found = {row.section: row.entries for row in inspect.inspect(made).residue}
    assert found["__bug_table"] is None


def test_every_section_that_kbridge_knows_is_explained() -> None:
    from kbridge import sections
    from kbridge.inspect import residue

    assert set(sections.TABLES) == set(residue._FINISHED)
    for name in (*sections.TABLES, *sections.INERT):
        assert residue._longest(residue._WHAT, name), name


# -- gates --


def test_gates_of_an_object(compiled: Compile) -> None:
    made = compiled(
        "int f(long a, long b, long c, long d, long e, long f, long g) { return g; }"
        "int v(const char *t, ...) { return 0; } static int s(void) { return 1; }"
        "int (*p)(void) = s; int init_module(void) { return 0; }"
    )
    image = inspect.inspect(made).image
    assert image is not None
    gates = {gate.name: (gate.stack_words, "variadic" in gate.problem) for gate in image.gates}
    assert gates == {"f": (1, False), "v": (0, True), "init_module": (0, False)}
    assert (image.module_init, image.module_exit) == (True, False)


# -- output --


def documented() -> set[str]:
    text = (ROOT / "docs/inspect.md").read_text()
    return set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))


def keys(value: object) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*map(keys, value.values()))
    if isinstance(value, list):
        return set().union(*map(keys, value))
    return set()


def test_every_key_is_documented(compiled: Compile) -> None:
    known = {"format"}
    for name in dir(report):
        kind = getattr(report, name)
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            known |= {one.name for one in dataclasses.fields(kind)}
    assert documented() == known
    assert keys(inspect.inspect(compiled(CALLS, *THUNKS)).as_dict()) <= known


def test_text_is_narrow_and_sorted(compiled: Compile) -> None:
    made = compiled(
        CALLS + "extern int " + "a" * 120 + "(void); int l(void) { return " + "a" * 120 + "(); }"
    )
    found = inspect.inspect(made)
    shown = verb.text(dataclasses.replace(found, file="kmod.o"))
    assert max(map(len, shown.splitlines())) <= verb.COLUMNS
    names = [one.name for one in found.symbols]
    assert names == sorted(names)
    for heading in ("Gates", "Kernel symbols", "Privileged instructions", "Mitigations"):
        assert f"\n\n{heading}" in shown


def test_names_cannot_command_a_terminal(compiled: Compile) -> None:
    made = compiled("extern int odd(void); int f(void) { return odd(); }")
    subprocess.run(["objcopy", "--redefine-sym", "odd=od\x1b[31md", made], check=True)
    shown = verb.inspect(verb.InspectRequest(made))
    assert "od?[31md" in shown
    assert json.loads(verb.inspect(verb.InspectRequest(made, json=True)))["format"] == 1


# -- what is no such file --


def elf_header(machine: int = 62, kind: int = 1, bits: int = 2) -> bytes:
    ident = b"\x7fELF" + bytes([bits, 1, 1]) + bytes(9)
    return ident + kind.to_bytes(2, "little") + machine.to_bytes(2, "little") + bytes(120)


BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "an empty file"),
    "text": (b"hello, world\n", "not an ELF file"),
    "script": (b"#!/bin/sh\necho\n", "a script"),
    "archive": (b"!<arch>\nx.o/            ", "an archive"),
    "boot image": (b"MZ" + bytes(600), "a boot image"),
    "only the magic": (b"\x7fELF", "damaged"),
    "core": (elf_header(kind=4), "a core file"),
    "other machine": (elf_header(machine=183), "an ELF file for AARCH64, 64 bit"),
    "32 bit": (elf_header(machine=3, bits=1), "an ELF file for 386, 32 bit"),
    "no machine": (elf_header(machine=0xBEEF), "an ELF file for"),
    "type": (elf_header(kind=99), "an ELF file of type"),
}


@pytest.mark.parametrize("name", BAD)
def test_not_for_us(tmp_path: Path, name: str) -> None:
    content, says = BAD[name]
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(KbridgeError, match=says) as caught:
        inspect.inspect(tmp_path / "x")
    assert caught.value.hint
    assert caught.value.status == 1


def test_neither_there_nor_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "none", tmp_path, tmp_path / "pipe", Path("x\0y")):
        with pytest.raises(UsageError) as caught:
            inspect.inspect(path)
        assert caught.value.hint


def test_packed_files(tmp_path: Path, compiled: Compile) -> None:
    made = compiled("int f(void) { return 0; }")
    packed = tmp_path / "kmod.ko.gz"
    packed.write_bytes(gzip.compress(made.read_bytes()))
    assert inspect.inspect(packed).kind == "object"
    packed.write_bytes(packed.read_bytes()[:40])
    with pytest.raises(KbridgeError, match="cannot unpack"):
        inspect.inspect(packed)


def test_the_command(kbridge: Kbridge, tmp_path: Path, compiled: Compile) -> None:
    made = compiled("int f(void) { return 0; }")
    done = kbridge("inspect", made, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["kind"] == "object"
    assert "object, taken for a part of a kmod" in kbridge("inspect", made).stdout
    for words, status in [
        ((made, "--kernel", "1.2.3"), 2),
        ((tmp_path / "none",), 2),
        ((ROOT / "README.md",), 1),
        ((), 2),
        ((made, made), 2),
    ]:
        bad = kbridge("inspect", *words)
        assert bad.returncode == status, bad.stderr
        assert "hint:" in bad.stderr
        assert "Traceback" not in bad.stderr
        assert not bad.stdout
