# SPDX-License-Identifier: GPL-2.0-only
"""The debug file of a kmod, read by gdb and binutils."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from kbridge import debug_info, pack
from kbridge.errors import KbridgeError

SOURCE = """\
extern int printk(const char *, ...);
extern long jiffies;
struct pair { long a, b; };
static long many[600];
long counter = 7;
static volatile struct pair pair = { 1, 2 };
__attribute__((section(".data..percpu"))) int hits = 10;
__attribute__((section(".exit.text"))) int last(int x) { return many[x]; }
int f(const char *name)
{
	return printk("%s %ld", name, jiffies)
		+ counter++;
}
static __attribute__((noinline)) long g(long a)
{
	return pair.a + many[a]
		+ printk("a string whose end is that of another: %ld", a);
}
long h(long a) { return 2 * g(a) + printk("another: %ld", a); }
"""
MODELS = {"pic": ["-fPIC", "-fvisibility=hidden"], "kernel": ["-mcmodel=kernel", "-fno-pie"]}


def made(folder: Path, source: str, model: str) -> tuple[Path, pack.Image]:
    file, joined, output = folder / "k.c", folder / "k.o", folder / "k.debug"
    file.write_text(source)
    how = ["-O2", "-g", "-fno-asynchronous-unwind-tables", "-ffunction-sections", *MODELS[model]]
    subprocess.run(["gcc", *how, "-c", "-o", joined, file], check=True)
    image = pack.pack(joined)
    debug_info.write(joined, image, output)
    return output, image


def gdb(file: Path, *commands: str) -> str:
    words = [word for command in commands for word in ("-ex", command)]
    return subprocess.run(
        ["gdb", "-nx", "-batch", *words, file], capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.parametrize("model", MODELS)
def test_functions_and_lines_are_where_the_image_has_them(tmp_path: Path, model: str) -> None:
    file, image = made(tmp_path, SOURCE, model)
    places = {name: offset for name, offset, _ in image.functions}
    assert set(places) == {"f", "g", "h", "last"}
    first = {"f": 10, "g": 15, "h": 19, "last": 8}
    for name, offset in places.items():
        said = subprocess.run(
            ["addr2line", "-f", "-e", file, hex(offset)], capture_output=True, text=True, check=True
        ).stdout
        assert re.fullmatch(rf"{name}\n.*/k.c:{first[name]}\n", said), said
        assert f"starts at address {offset:#x} <{name}" in gdb(file, f"info line {name}")


@pytest.mark.parametrize("model", MODELS)
def test_the_contents_are_the_images(tmp_path: Path, model: str) -> None:
    file, image = made(tmp_path, SOURCE, model)
    subprocess.run(["objcopy", "-O", "binary", file, tmp_path / "bytes"], check=True)
    assert (tmp_path / "bytes").read_bytes() == image.content
    said = gdb(file, "print counter", "print pair", "print hits", "list g", "ptype struct pair")
    assert "$1 = 7\n" in said
    assert "$2 = {a = 1, b = 2}\n" in said
    assert "$3 = 10\n" in said
    assert "15\t{\n16\t\treturn pair.a + many[a]\n" in said
    assert re.search(r"\n16\t\treturn pair.*\n +0x\w+ <\+\d+>:\t", gdb(file, "disassemble /s g"))


def test_data_that_is_all_zero(tmp_path: Path) -> None:
    text = "static long v[9];\nlong f(int a) { return v[a]++; }\n"
    file, image = made(tmp_path, text, "kernel")
    assert [name for name, _, _ in image.functions] == ["f"]
    assert "$1 = {0, 0, 0, 0, 0, 0, 0, 0, 0}" in gdb(file, "print v")


def test_kernel_names_are_not_in_it(tmp_path: Path) -> None:
    file, _ = made(tmp_path, SOURCE, "kernel")
    listed = subprocess.run(["nm", file], capture_output=True, text=True, check=True).stdout
    assert "printk" not in listed
    assert "jiffies" not in listed


def test_a_file_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    file, image = made(tmp_path, SOURCE, "kernel")
    debug_info.verify(file, image)
    image.functions[0] = (image.functions[0][0], image.functions[0][1] + 1, 1)
    with pytest.raises(KbridgeError, match="where the image has it"):
        debug_info.verify(file, image)
    image.content[0] ^= 1
    with pytest.raises(KbridgeError, match=r"the debug file's \.text"):
        debug_info.verify(file, image)
