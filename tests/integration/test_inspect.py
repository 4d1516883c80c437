# SPDX-License-Identifier: GPL-2.0-only
"""kbridge inspect on programs for real kernels, and on their modules; binutils is the oracle."""

from __future__ import annotations

import functools
import json
import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any, Protocol

import pytest
from conftest import Kbridge
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kbridge import inspect, proc
from kbridge.errors import KbridgeError
from kbridge.inspect import program
from kbridge.kernels import image as kernel_image
from kbridge.kernels.target import KernelTarget
from kbridge.verbs import inspect as verb
from kbridge.vm import modules

KMOD = """\
#include <linux/fs.h>
#include <linux/jump_label.h>
#include <linux/module.h>
#include <linux/percpu.h>
#include <linux/sched.h>
#include <linux/uaccess.h>
#include <asm/msr.h>
#include <asm/special_insns.h>

static DEFINE_PER_CPU(long, calls);
static DEFINE_STATIC_KEY_FALSE(key);
static int level = 3;
module_param(level, int, 0444);

unsigned long read_cr3(void);
unsigned long read_cr3(void)
{
	this_cpu_inc(calls);
	return __read_cr3();
}

long read_msr(unsigned int number, void __user *to, long a, long b, long c, long d, long e);
long read_msr(unsigned int number, void __user *to, long a, long b, long c, long d, long e)
{
	u64 value = __rdmsr(number);

	WARN_ON(level > 7);
	if (static_branch_unlikely(&key))
		return e;
	return copy_to_user(to, &value, sizeof(value));
}

int through(int (*function)(int), int x);
int through(int (*function)(int), int x)
{
	volatile char text[64];

	text[x & 63] = current->pid;
	return function(x) + text[3];
}

static int __init start(void)
{
	return 0;
}

static void __exit end(void)
{
}

module_init(start);
module_exit(end);
MODULE_LICENSE("GPL");
"""
APP = "long read_cr3(void);\nint main(void) { return read_cr3() == 0; }\n"
GATES = [("init_module", 0), ("read_cr3", 0), ("read_msr", 1), ("through", 0)]


class Builder(Protocol):
    """A program built of KMOD and APP, once for each kernel and each way to build."""

    def __call__(self, kernel: KernelTarget, *how: str) -> Path: ...


@pytest.fixture(scope="module")
def built(kbridge: Kbridge, tmp_path_factory: pytest.TempPathFactory) -> Builder:
    done: dict[tuple[str, ...], Path] = {}

    def build(kernel: KernelTarget, *how: str) -> Path:
        key = (kernel.release, *how)
        if key not in done:
            folder = tmp_path_factory.mktemp("built")
            (folder / "kmod.c").write_text(KMOD)
            (folder / "app.c").write_text(APP)
            words = ["build", "app.c", "--kmod", "kmod.c", "-o", "program", *how]
            ran = kbridge(*words, "--kernel", kernel.release, cwd=folder)
            assert ran.returncode == 0, ran.stderr
            done[key] = folder / "program"
        return done[key]

    return build


def report_of(path: Path, **how: Any) -> dict[str, Any]:
    found = inspect.inspect(path, **how).as_dict()
    del found["file"]
    return found


def states(found: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["state"] for one in found["mitigations"]}


def is_set(kernel: KernelTarget, name: str) -> bool:
    return f"\n{name}=y\n" in (kernel.kdir / ".config").read_text()


# -- programs --


def check_symbols(path: Path, found: dict[str, Any]) -> None:
    """readelf sees the same names, with the version that only kernel names have.

    And _text, of which every program asks the address, but not its kmod.
    """
    listed = proc.run(["readelf", "-W", "--dyn-syms", path]).stdout
    names = set(re.findall(r" ([\w.]+)@LINUX_KERNEL", listed))
    assert {one["name"] for one in found["symbols"]} | {"_text"} == names
    assert all(one["status"] == "found" for one in found["symbols"])
    types = {one["name"]: one["type"] for one in found["symbols"]}
    assert types["_copy_to_user"] == "function"
    assert types["param_ops_int"] == "data"


def check_code(path: Path, found: dict[str, Any], folder: Path) -> None:
    """objdump, shown the bare image, reads the same instructions."""
    image = folder / "image"
    proc.run(["objcopy", "-O", "binary", "-j", ".kbridge", path, image])
    size = str(found["image"]["text"])
    how = ["-D", "-b", "binary", "-mi386:x86-64", "--no-show-raw-insn", f"--stop-address={size}"]
    listing = proc.run(["objdump", *how, image]).stdout
    expected = Counter(
        {
            "rdmsr": len(re.findall(r"\srdmsr\b", listing)),
            "mov cr3": len(re.findall(r"\smov\s+%cr3,", listing)),
        }
    )
    assert Counter(one["mnemonic"] for one in found["privileged"]) == expected
    assert expected == {"rdmsr": 1, "mov cr3": 1}
    places = {one["mnemonic"]: one["site"]["function"] for one in found["privileged"]}
    assert places == {"rdmsr": "read_msr", "mov cr3": "read_cr3"}


def check_rest(found: dict[str, Any], kernel: KernelTarget) -> None:
    bound, image = found["bound"], found["image"]
    assert (bound["release"], bound["link"]) == (kernel.release, "libkernel")
    assert re.fullmatch("[0-9a-f]{40}", bound["build_id"])
    assert (image["name"], image["module_init"], image["module_exit"]) == ("program", True, True)
    assert [(gate["name"], gate["stack_words"]) for gate in image["gates"]] == GATES
    assert image["percpu"] >= 8
    users = {one["name"]: one["functions"] for one in found["percpu"] if one["own"]}
    assert users == {"calls": ["read_cr3"]}
    kernels = {one["name"]: one["functions"] for one in found["percpu"] if not one["own"]}
    assert "through" in kernels.get("pcpu_hot", kernels.get("current_task", []))
    rows = {row["section"]: (row["entries"], row["fate"]) for row in found["residue"]}
    assert rows["__bug_table"] == (1, "finished")
    assert rows["__jump_table"] == (1, "finished")
    assert rows["__param"] == (1, "finished")
    assert rows[".data..percpu"] == (1, "placed")
    assert rows[".modinfo"][1] == "left out"


@pytest.mark.parametrize("code", ["pic", "kernel"])
def test_a_program(built: Builder, kernels: list[KernelTarget], tmp_path: Path, code: str) -> None:
    for kernel in kernels:
        made = built(kernel, "--code", code)
        found = report_of(made)
        check_symbols(made, found)
        check_code(made, found, tmp_path)
        check_rest(found, kernel)
        sites = {row["section"]: row["entries"] for row in found["residue"]}
        counts = {one["name"]: one["sites"] for one in found["mitigations"]}
        assert counts["return thunks"] == sites[".return_sites"]
        assert counts["retpolines"] == sites[".retpoline_sites"] == 1
        seen = states(found)
        assert seen["retpolines"] == seen["return thunks"] == seen["stack protector"] == "present"
        ibt = is_set(kernel, "CONFIG_X86_KERNEL_IBT")
        assert seen["IBT"] == ("present" if ibt else "absent")
        assert {one["name"]: one["kernel"] for one in found["mitigations"]}["IBT"] is ibt
        stripped = tmp_path / "stripped"
        proc.run(["strip", "-o", stripped, made])
        assert report_of(stripped) == found


def test_both_kinds_of_kernel_are_tested(kernels: list[KernelTarget]) -> None:
    assert {is_set(one, "CONFIG_X86_KERNEL_IBT") for one in kernels} == {True, False}


@pytest.mark.parametrize(
    ("how", "link", "kind"),
    [
        (["--link", "script", "--shared"], "script", "library"),
        (["--ldflags=-no-pie -s"], "libkernel", "program"),
        pytest.param(["--link", "script"], "script", "program", marks=pytest.mark.slow),
        pytest.param(["--shared"], "libkernel", "library", marks=pytest.mark.slow),
        pytest.param(
            ["--ldflags=-Wl,-z,pack-relative-relocs"],
            "libkernel",
            "program",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["--ldflags=-s -Wl,-z,relro,-z,now"], "libkernel", "program", marks=pytest.mark.slow
        ),
    ],
)
def test_other_ways_to_link(
    built: Builder, kernels: list[KernelTarget], how: list[str], link: str, kind: str
) -> None:
    whole = report_of(built(kernels[-1], "--code", "pic"))
    found = report_of(built(kernels[-1], *how))
    assert (found["bound"]["link"], found["kind"]) == (link, kind)
    for part in ("image", "symbols", "percpu", "privileged", "residue", "mitigations"):
        assert found[part] == whole[part]


@pytest.mark.parametrize("which", [-1, pytest.param(0, marks=pytest.mark.slow)])
def test_without_mitigations(built: Builder, kernels: list[KernelTarget], which: int) -> None:
    kernel = kernels[which]
    flags = "--kcflags=-mfunction-return=keep -mindirect-branch=keep -fno-stack-protector"
    seen = states(report_of(built(kernel, flags)))
    assert seen["retpolines"] == seen["return thunks"] == seen["stack protector"] == "absent"
    assert seen["SLS"] == "present"  # -mharden-sls=all is still there
    dropped = report_of(built(kernel, "--mitigations", "drop"))
    assert states(dropped)["SLS"] == states(dropped)["return thunks"] == "absent"
    naked = {one["name"]: one["naked"] for one in dropped["mitigations"]}["retpolines"]
    assert [site["function"] for site in naked] == ["through"]


def test_against_another_kernel(
    kbridge: Kbridge, built: Builder, kernels: list[KernelTarget]
) -> None:
    old, new = kernels[0], kernels[-1]
    made = built(old, "--code", "pic")
    done = kbridge("inspect", "--json", "--kernel", new.release, made)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["bound"]["release"], found["kernel"]) == (old.release, new.release)
    assert found["notes"] == [f"built for kernel {old.release}, looked up in {new.release}"]
    assert "missing" in {one["status"] for one in found["symbols"]}  # current_task is no more
    text = kbridge("inspect", "--kdir", new.kdir, made).stdout
    assert "unknown to that kernel" in text
    assert max(map(len, text.splitlines())) <= verb.COLUMNS


def test_an_assembled_image_is_no_program(
    built: Builder, kernels: list[KernelTarget], tmp_path: Path
) -> None:
    made = built(kernels[-1], "--code", "pic")
    (tmp_path / "x.S").write_text('.section .kbridge,"a"\n.long 0\n')
    subprocess.run(["gcc", "-c", "-o", "x.o", "x.S"], cwd=tmp_path, check=True)
    with pytest.raises(KbridgeError, match="not linked yet"):
        inspect.inspect(tmp_path / "x.o")
    other = tmp_path / "other"
    content = bytearray(made.read_bytes())
    head = content.index(b"program\0" + bytes(40)) - 8
    assert content[head : head + 4] == program._ABI.to_bytes(4, "little")
    content[head : head + 4] = (999).to_bytes(4, "little")
    other.write_bytes(content)
    with pytest.raises(KbridgeError, match="linked by another kbridge"):
        inspect.inspect(other)


def test_without_section_headers(
    built: Builder, kernels: list[KernelTarget], tmp_path: Path
) -> None:
    content = bytearray(built(kernels[-1], "--code", "pic").read_bytes())
    content[0x28:0x30] = bytes(8)  # e_shoff
    content[0x3C:0x40] = bytes(4)  # e_shnum, e_shstrndx
    (tmp_path / "bare").write_bytes(content)
    with pytest.raises(KbridgeError, match="section headers were taken away"):
        inspect.inspect(tmp_path / "bare")


# -- modules of the kernels --

INSTRUCTIONS = re.compile(
    r"cli|sti|hlt|rdmsr|wrmsr|clts|invlpga?|invpcid|swapgs|iretq?|sysretq?|sysexit|stac|clac|wbinvd"
    r"|invd|wbnoinvd|xsetbv|rdpmc|monitorx?|mwaitx?|in|out|(?:in|out)s[bwl]|[sl][gi]dt|[sl]ldt"
    r"|ltr|str|[sl]msw|vm(?:call|mcall|run|load|save|launch|resume|xon|xoff|ptrld|ptrst|clear|read"
    r"|write)|stgi|clgi|inv(?:ept|vpid)|encls|pconfig|xsaves(?:64)?|xrstors(?:64)?|syscall|sysenter"
)
PREFIXES = {"rep", "repz", "repnz", "lock", "cs", "ds", "es", "data16", "notrack"}


def privileged_by_objdump(path: Path) -> tuple[Counter[str], Counter[str]]:
    """In code, and in the replacements of alternatives."""
    counts: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    section = ""
    for line in proc.run(["objdump", "-dz", "--no-show-raw-insn", path]).stdout.splitlines():
        section = (
            line.removeprefix("Disassembly of section ").rstrip(":")
            if (line.startswith("Disassembly"))
            else section
        )
        found = re.match(r"\s+[0-9a-f]+:\s+(.*)", line)
        words = [word for word in found[1].split() if word not in PREFIXES] if found else []
        if not words:
            continue
        name = words[0]
        if INSTRUCTIONS.fullmatch(name) or (name == "mov" and re.search(r"%(cr|db)\d", line)):
            counts[section == ".altinstr_replacement"][name] += 1
    return counts


def as_objdump(mnemonic: str) -> str:
    name = mnemonic.rpartition(" ")[2] if not mnemonic.startswith("mov ") else "mov"
    return {"insd": "insl", "outsd": "outsl", "iretd": "iret"}.get(name, name)


def check_module(path: Path, file: Path) -> None:
    """`file`: as it was packed; `path`: unpacked, for binutils."""
    found = inspect.inspect(file)
    assert found.kind == "module"
    listed = {line.split()[-1] for line in proc.run(["nm", "-u", path]).stdout.splitlines()}
    assert {one.name for one in found.symbols} == listed
    bad = [one.name for one in found.symbols if one.status != "found" or not one.exported]
    assert not bad
    code, replacements = privileged_by_objdump(path)
    assert Counter(as_objdump(o.mnemonic) for o in found.privileged if not o.alternative) == code
    mine = Counter(as_objdump(one.mnemonic) for one in found.privileged if one.alternative)
    assert mine == replacements
    sizes = dict(
        re.findall(
            r"\] (\S+)\s+\S+\s+[0-9a-f]+ [0-9a-f]+ ([0-9a-f]+)",
            proc.run(["readelf", "-SW", path]).stdout,
        )
    )
    rows = {row.section: row for row in found.residue}
    for name in (".return_sites", ".retpoline_sites", "__bug_table", ".altinstructions"):
        assert (rows[name].bytes if name in rows else 0) == int(sizes.get(name, "0"), 16)
        assert name not in rows or rows[name].entries is not None
    counts = {one.name: (one.state, one.sites) for one in found.mitigations}
    sites = rows[".return_sites"].entries if ".return_sites" in rows else 0
    assert counts["return thunks"] == ("present" if sites else "not applicable", sites)
    assert counts["retpolines"][0] != "absent"
    text = verb.text(found).splitlines()[1:]
    assert max(map(len, text)) <= verb.COLUMNS


def check_modules(kernels: list[KernelTarget], folder: Path, step: int) -> None:
    checked = 0
    for kernel in kernels:
        tree = kernel_image.find(kernel.release).modules
        assert tree is not None
        files = sorted(tree.glob("kernel/**/*.ko*"))
        for file in files[step // 2 :: step]:
            unpacked = folder / file.name.partition(".ko")[0]
            unpacked.write_bytes(modules.content(file))
            check_module(unpacked, file)
            unpacked.unlink()
            checked += 1
    assert checked >= 2 * len(kernels)


def test_a_few_modules(kernels: list[KernelTarget], tmp_path: Path) -> None:
    check_modules(kernels, tmp_path, 400)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_many_modules(kernels: list[KernelTarget], tmp_path: Path) -> None:
    check_modules(kernels, tmp_path, 10)


# -- damaged files --


def survives(path: Path) -> None:
    """A report or an error, in a form that a person can read."""
    try:
        found = inspect.inspect(path)
    except KbridgeError as error:
        problem = error
    else:
        json.dumps(found.as_dict())
        assert all(len(line) <= verb.COLUMNS for line in verb.text(found).splitlines()[1:])
        return
    assert problem.hint
    assert "\n" not in problem.message


@pytest.fixture
def whole(
    built: Builder, kernels: list[KernelTarget], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[Path]:
    """A program, and an object with debug information; what is known of a kernel is kept."""
    monkeypatch.setattr(inspect.kernels, "facts", functools.cache(inspect.kernels.facts))
    source = tmp_path / "small.c"
    source.write_text("extern int printk(const char *, ...); int f(void) { return printk(0); }\n")
    subprocess.run(["gcc", "-g", "-c", "-o", tmp_path / "small.o", source], check=True)
    return [built(kernels[0], "--code", "pic"), tmp_path / "small.o"]


def mutate(content: bytes, data: st.DataObject) -> bytes:
    """Cut it, or change bytes; many of them in the headers and tables, which decide most."""
    if data.draw(st.booleans()) and data.draw(st.booleans()):
        return content[: data.draw(st.integers(0, len(content) - 1))]
    changed = bytearray(content)
    edges = st.one_of(
        st.integers(0, 0x400), st.integers(0, len(content) - 1), st.integers(-0x1000, -1)
    )
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(edges) % len(content)
        changed[at] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF, changed[at] ^ 1]))
    return bytes(changed)


def check_mutations(whole: list[Path], folder: Path, examples: int) -> None:
    contents = [path.read_bytes() for path in whole]
    damaged = folder / "damaged"

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def run(data: st.DataObject) -> None:
        damaged.write_bytes(mutate(data.draw(st.sampled_from(contents)), data))
        survives(damaged)

    run()


def test_damaged_files(whole: list[Path], tmp_path: Path) -> None:
    check_mutations(whole, tmp_path, 25)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_many_damaged_files(whole: list[Path], tmp_path: Path) -> None:
    check_mutations(whole, tmp_path, 2000)


# -- others --


def test_a_program_without_a_kmod(kbridge: Kbridge) -> None:
    done = kbridge("inspect", "/bin/ls")
    assert done.returncode == 0, done.stderr
    assert "no kernel code in it" in done.stdout
    assert "Mitigations" not in done.stdout


def test_kelevate_itself(kbridge: Kbridge, kernels: list[KernelTarget]) -> None:
    for kernel in kernels:
        path = kbridge("kelevate", "--kernel", kernel.release).stdout.strip()
        found = inspect.inspect(Path(path))
        assert (found.kind, found.kernel) == ("module", kernel.release)
        assert found.image is not None
        assert found.image.name == "kelevate"
        assert [one.name for one in found.symbols if not one.exported] == []
