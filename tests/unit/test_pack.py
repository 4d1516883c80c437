# SPDX-License-Identifier: GPL-2.0-only
"""Packing objects into images; the objects are compiled here, without a kernel."""

from __future__ import annotations

import re
import struct
import subprocess
from pathlib import Path

import pytest

from kbridge import callbacks, options, pack
from kbridge.errors import KbridgeError

FLAGS = ["-O2", "-g", "-fno-asynchronous-unwind-tables", "-mno-red-zone", "-fcf-protection=none"]
MODELS = {
    "pic": ["-fPIC", "-fvisibility=hidden"],
    "got": ["-fPIC"],
    "kernel": ["-mcmodel=kernel", "-fno-pie"],
}


def compiled(folder: Path, source: str, *flags: str, suffix: str = ".c") -> Path:
    file = folder / f"kmod{suffix}"
    file.write_text(source)
    output = folder / "kmod.o"
    subprocess.run(["gcc", *FLAGS, *flags, "-c", "-o", output, file], check=True)
    return output


def packed(folder: Path, source: str, *flags: str) -> pack.Image:
    return pack.pack(compiled(folder, source, *(flags or MODELS["kernel"])))


SOURCE = """
extern int printk(const char *, ...);
extern long jiffies;
long counter = 7, zero[600];
static long *const where = &counter;
const char *name = "kmod";
int f(void) { return printk("%s %ld %p", name, jiffies, where) + counter++; }
long g(long a, long b, long c, long d, long e, long g, long h, long i) { return a + i + zero[b]; }
"""


@pytest.mark.parametrize("model", MODELS)
def test_layout_and_imports(tmp_path: Path, model: str) -> None:
    image = packed(tmp_path, SOURCE, *MODELS[model])
    assert image.end % pack.PAGE == 0
    assert 0 < image.text_end <= image.rodata_end < image.end
    assert image.text_end % pack.PAGE == image.rodata_end % pack.PAGE == 0
    assert {entry.name for entry in image.imports} == {"printk", "jiffies"}
    assert {gate.name: gate.stack_words for gate in image.gates} == {"f": 0, "g": 2}
    assert set(image.no_gate) == {"counter", "zero", "name"}


def loaded(image: pack.Image, base: int, imports: dict[str, int]) -> bytearray:
    """Apply the records as kelevate does, at the address `base`."""
    content = bytearray(image.content)
    values = [base, 0x1000, base + image.end, 0]
    values += [imports[entry.name] for entry in image.imports]
    for record in image.records:
        value = values[record.symbol] + record.addend
        form = {pack.R_64: "<Q", pack.R_32S: "<i", pack.R_32: "<I", pack.R_PC32: "<i"}[record.type]
        if record.type == pack.R_PC32:
            value -= base + record.offset
        elif record.type == pack.R_32S:
            value -= 1 << 64
        struct.pack_into(form, content, record.offset, value)
    return content


def linked_by_ld(folder: Path, object_: Path, image: pack.Image, imports: dict[str, int]) -> bytes:
    """What ld makes of the same object at the same addresses: the oracle."""
    base = 0xFFFFFFFFC0000000
    script = "SECTIONS {"
    edges = [(0, "*(.text*)"), (image.text_end, "*(.rodata*)"), (image.rodata_end, "*(.data*)")]
    for index, (offset, sections) in enumerate(edges):
        script += f" .p{index} {base + offset:#x} : {{ {sections}"
        script += " *(.bss*) }" if index == 2 else " }"
    script += " /DISCARD/ : { *(.comment) *(.note*) } }"
    (folder / "at.lds").write_text(script)
    symbols = [f"--defsym={name}={value:#x}" for name, value in imports.items()]
    output = folder / "linked"
    subprocess.run(
        ["ld", "-T", folder / "at.lds", *symbols, "-e", "0", "-o", output, object_],
        check=True,
        stderr=subprocess.DEVNULL,
    )
    binary = folder / "linked.bin"
    subprocess.run(["objcopy", "-O", "binary", "--gap-fill=0", output, binary], check=True)
    return binary.read_bytes()


def test_bytes_are_those_that_ld_makes(tmp_path: Path) -> None:
    source = compiled(tmp_path, SOURCE, *MODELS["kernel"])
    image = pack.pack(source)
    imports = {"printk": 0xFFFFFFFF81234560, "jiffies": 0xFFFFFFFF82345678}
    mine = loaded(image, 0xFFFFFFFFC0000000, imports)
    theirs = linked_by_ld(tmp_path, source, image, imports)
    assert bytes(mine[: len(theirs)]) == theirs


def test_got_slots_are_the_images_own(tmp_path: Path) -> None:
    image = packed(tmp_path, "extern int a; int *f(void) { return &a; }", "-fPIC")
    slots = [record for record in image.records if record.type == pack.R_64]
    assert len(slots) == 1
    assert image.text_end <= slots[0].offset < image.rodata_end


def test_per_cpu_data_is_an_area_of_its_own(tmp_path: Path) -> None:
    image = packed(
        tmp_path,
        '__attribute__((section(".data..percpu"))) long a = 5;'
        '__attribute__((section(".data..percpu..aligned"), aligned(64))) long b = 6;'
        "long *f(void) { return &a; }",
    )
    assert image.percpu_align == 64
    start, size = image.percpu
    assert start % 64 == 0
    assert image.rodata_end <= start
    assert {5, 6} <= set(struct.unpack_from(f"<{size // 8}Q", image.content, start))
    assert [record.symbol for record in image.records] == [pack.SYM_PERCPU]


def test_per_cpu_data_may_be_addresses(tmp_path: Path) -> None:
    image = packed(tmp_path, 'int v; __attribute__((section(".data..percpu"))) int *p = &v;')
    assert [(one.offset, one.type) for one in image.records] == [(image.percpu[0], pack.R_64)]


def test_this_module_init_and_exit(tmp_path: Path) -> None:
    image = packed(
        tmp_path,
        "extern char __this_module; char *m(void) { return &__this_module; }"
        "int init_module(void) { return 0; } void cleanup_module(void) {}",
    )
    assert not image.imports
    assert pack.SYM_MODULE in {record.symbol for record in image.records}
    assert image.init is not None
    assert image.exit is not None
    assert [gate.name for gate in image.gates] == ["init_module", "m"]


def test_fentry_calls_become_nops(tmp_path: Path) -> None:
    image = packed(
        tmp_path, "int f(void) { return 1; }", "-mcmodel=kernel", "-fno-pie", "-pg", "-mfentry"
    )
    assert not image.imports
    assert image.content[:5] == b"\x0f\x1f\x44\x00\x00"


def test_an_empty_structure_has_an_address(tmp_path: Path) -> None:
    image = packed(tmp_path, "static struct {} key; void *f(void) { return &key; }")
    assert [record.symbol for record in image.records] == [pack.SYM_IMAGE]


def test_weak_imports_are_marked(tmp_path: Path) -> None:
    image = packed(tmp_path, "extern int a __attribute__((weak)); int *f(void) { return &a; }")
    assert [entry.weak for entry in image.imports] == [True]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("__thread int t; int *f(void) { return &t; }", "t"),
        ('__attribute__((section("odd"))) int v = 1;', "section odd is of a kind"),
        ("int v; __attribute__((constructor)) void f(void) { v++; }", "constructors"),
    ],
)
def test_what_cannot_be_handled_is_refused_by_name(tmp_path: Path, source: str, says: str) -> None:
    with pytest.raises(KbridgeError, match=says):
        packed(tmp_path, source)


REFUSED = {
    "section": 'static int __attribute__((section("odd"))) v = 1;\nint f(void) {\nreturn v++; }',
    "constructor": "int v;\n\n__attribute__((constructor)) static void f(void) { v++; }",
    "system-call": 'int f(void) {\nint r;\nasm("syscall" : "=a"(r)); return r; }',
    "kernel-exit": 'void f(void) {\n\nasm("swapgs"); }',
    "user-segment": 'long f(void) {\nlong r;\nasm("mov %%fs:0, %0" : "=r"(r)); return r; }',
    "relocation": "extern __thread int t;\nint f(void) {\nreturn t; }",
}


def test_every_class_has_a_test() -> None:
    of_the_stack = {"stack", "stack-unknown"}  # test_stack.py
    assert set(REFUSED) | of_the_stack == set(options.REFUSED_CLASSES)


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_name_class_function_line_and_way_out(tmp_path: Path, name: str) -> None:
    source = compiled(tmp_path, REFUSED[name], "-fpic" if name == "relocation" else "-O2")
    with pytest.raises(KbridgeError) as caught:
        pack.pack(source)
    assert f"(class {name})" in caught.value.message
    assert re.match(r"\S+\.c:3: ", caught.value.message)
    assert re.search(r"\bf\(\)", caught.value.message)
    assert f"--allow {name}" in str(caught.value.hint)
    assert pack.pack(source, allow=[name]).functions


def test_an_address_does_not_fit_into_32_bits(tmp_path: Path) -> None:
    with pytest.raises(KbridgeError, match=r"in g\(\): relocation R_X86_64_32 against"):
        packed(tmp_path, 'void f(void);\nvoid g(void) { asm(".long f"); }\nvoid f(void) { }')


LATER = """
extern void add_timer(void *);
extern void sort(void (*)(void));
extern void debugfs_create_u32(int *);
extern void _printk(const char *, ...);
static int x;
static void called(void) { x++; }
"""


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("source", "possible"),
    [
        ("int f(void) { called(); return x; }", False),
        ("void f(void) { sort(called); }", False),  # before sort() returns, or never
        ('void f(void) { _printk("%d", x); called(); }', False),
        # a function of the kernel's, not of the image
        (
            '_Pragma("GCC visibility push(hidden)") extern void odd(void (*)(void)), it(void);'
            "void f(void) { odd(it); }",
            False,
        ),
        ("void f(void) { debugfs_create_u32(&x); }", True),
        (
            "extern void kernel_thread(void (*)(void)); void f(void) { kernel_thread(called); }",
            True,
        ),
        ("extern void (*pm_power_off)(void); void f(void) { pm_power_off = called; }", True),
        ("void f(void) { add_timer((char *)called + 1); }", True),  # anywhere in a function
        (
            'asm(".pushsection .rodata; .long g - .; .popsection"); void g(void) { add_timer(0); }',
            True,
        ),
        ("struct { void (*f)(void); } t = { called }; void f(void) { add_timer(&t); }", True),
        ("void (*t)(void); void f(void) { t = called; add_timer(&t); }", True),
        ('void init_module(void) { _printk("x"); called(); }', False),
    ],
)
def test_images_that_the_kernel_may_call_later(
    tmp_path: Path, model: str, source: str, possible: bool
) -> None:
    image = packed(tmp_path, LATER + source, *MODELS[model])
    assert callbacks.possible(image) == possible


@pytest.mark.parametrize(
    "code",
    [
        "mov %fs:0, %eax", "movw $1, %fs:8(%rax)", "lock incl %fs:16", "testb $1, %fs:0",
        "movabs %fs:0x1122334455667788, %al", "notl %fs:0(%rdi)", "add %r9, %fs:0", "syscall",
        "cmpb $3, %fs:4", "sysretq", "iretq", "swapgs", "int $0x80", "sysenter",
    ],
)  # fmt: skip
def test_instructions_in_assembly_without_functions(tmp_path: Path, code: str) -> None:
    source = f'void f(void) {{ }}\nasm(".pushsection .text\\nlabel: {code}\\n.popsection");'
    with pytest.raises(KbridgeError, match=r"\(class (system-call|kernel-exit|user-segment)\)"):
        packed(tmp_path, source)


def test_too_much_per_cpu_data(tmp_path: Path) -> None:
    with pytest.raises(KbridgeError, match="40000 bytes of per-CPU data"):
        packed(tmp_path, '__attribute__((section(".data..percpu"))) char a[40000] = {1};')


def test_what_only_looks_like_such_an_instruction(tmp_path: Path) -> None:
    image = packed(tmp_path, "long f(long a) { return a ^ 0x050f48cf64488b04; }")
    assert image.gates


@pytest.mark.parametrize(
    ("prototype", "says"),
    [
        ("int f(const char *s, ...) { return 0; }", "variadic"),
        ("int f(double d) { return 0; }", "takes floating point"),
        ("float f(void) { return 0; }", "returns floating point"),
        ("struct s { double d; }; int f(struct s x) { return 0; }", "takes floating point"),
        (
            "struct s { char c; int i; } __attribute__((packed)); "
            "struct s f(void) { struct s x = {}; return x; }",
            "in memory",
        ),
        ("struct s { long a[3]; }; struct s f(void) { struct s x = {}; return x; }", "in memory"),
    ],
)
def test_no_gate_for_what_words_cannot_carry(tmp_path: Path, prototype: str, says: str) -> None:
    image = packed(tmp_path, prototype, "-mcmodel=kernel", "-fno-pie", "-fno-builtin")
    assert not image.gates
    assert says in image.no_gate["f"]
    assert "kmod.c:1" in image.no_gate["f"]


def test_no_gate_for_more_words_than_the_kernel_stack_should_take(tmp_path: Path) -> None:
    source = "struct s {{ long a[{}]; }}; int f(struct s x) {{ return 0; }}"
    assert packed(tmp_path, source.format(256)).gates[0].stack_words == 256
    image = packed(tmp_path, source.format(257))
    assert not image.gates
    assert "more than 262 words" in image.no_gate["f"]


WORDS = {
    "int f(void) { return 0; }": 0,
    "int f(char a, short b, int c, void *d, long e, unsigned char f) { return 0; }": 0,
    "int f(long a, long b, long c, long d, long e, long f, int g) { return g; }": 1,
    "struct s { long a, b; }; int f(struct s x, struct s y, struct s z) { return 0; }": 0,
    "struct s { long a, b; }; int f(int i, struct s x, struct s y, struct s z) { return 0; }": 2,
    "struct s { long a, b, c; }; int f(struct s x) { return 0; }": 3,
    "struct s { char c[3]; }; int f(struct s x) { return 0; }": 0,
    "int f(long a, long b, long c, long d, long e, __int128 g) { return 0; }": 2,
    "int f(long a, long b, long c, long d, long e, long g, long h, __int128 i) { return 0; }": 4,
    "struct s { char c; int i; } __attribute__((packed)); int f(struct s x) { return 0; }": 1,
    "struct s { char c; char d[3]; int i; }; int f(struct s x) { return 0; }": 0,
    "struct s { long a; __int128 b; }; int f(long a, long b, long c, long d, long e, long g, "
    "long h, struct s i) { return 0; }": 6,
    "struct s { long a[4]; } __attribute__((aligned(32))); int f(long a, long b, long c, long d, "
    "long e, long g, long h, struct s i) { return 0; }": 8,
    "struct s { int a : 3; int b : 20; }; int f(struct s x) { return 0; }": 0,
    "static int g(int x) { return x; } int f(int a, int b, int c, int d, int e, int h, int i) "
    "{ return g(i); }": 1,
    "enum e { A }; typedef enum e t; int f(const t x, t *const y) { return 0; }": 0,
}


@pytest.mark.parametrize("source", WORDS)
def test_stack_words_follow_the_calling_convention(tmp_path: Path, source: str) -> None:
    image = packed(tmp_path, source)
    assert [gate.stack_words for gate in image.gates] == [WORDS[source]]


def test_an_alias_is_called_as_its_function(tmp_path: Path) -> None:
    image = packed(
        tmp_path,
        "typedef int t(long a, long b, long c, long d, long e, long g, long h);"
        "int f(long a, long b, long c, long d, long e, long g, long h) { return h; }"
        't other __attribute__((alias("f")));',
    )
    assert {gate.name: gate.stack_words for gate in image.gates} == {"f": 1, "other": 1}


def test_without_debug_information_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KbridgeError, match="no debug information"):
        packed(tmp_path, "int f(void) { return 0; }", "-g0", "-fno-pie", "-mcmodel=kernel")


def test_not_an_object(tmp_path: Path) -> None:
    file = tmp_path / "x.o"
    for content in (b"", b"hello", b"\x7fELF" + bytes(100)):
        file.write_bytes(content)
        with pytest.raises(KbridgeError):
            pack.pack(file)
    with pytest.raises(KbridgeError, match="No such file"):
        pack.pack(tmp_path / "none.o")
