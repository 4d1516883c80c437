# SPDX-License-Identifier: GPL-2.0-only
"""`kbridge gen-libkernel` as a command: its files, programs linked against them, bad input."""

from __future__ import annotations

import os
import resource
import stat
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lief
import pytest
from conftest import Kbridge
from elftools.elf.elffile import ELFFile

from kbridge import libkernel, proc
from kbridge.kernels import image as images
from kbridge.kernels.target import KernelTarget
from kbridge.symbols.table import Symbol, SymbolTable

# Asks for its own memcpy and the kernel's, and for the kernel's data.
APP = """\
#include <stdio.h>
#include <string.h>
extern char kernel_memcpy[], kernel_task[];
__asm__(".symver kernel_memcpy, memcpy@LINUX_KERNEL");
__asm__(".symver kernel_task, init_task@LINUX_KERNEL");
static void *initialised[] = { kernel_memcpy };
int main(int argc, char **argv)
{
	char text[8];
	void *(*volatile copy)(void *, const void *, size_t) = memcpy;

	copy(text, "libc's", 7);
	return printf("%p %p %p %s\\n", kernel_memcpy, kernel_task, initialised[0], text) < 0;
}
"""
KMOD_STYLE = """\
extern int _printk(const char *, ...);
extern char init_task[];
void *memcpy(void *, const void *, unsigned long);
int puts(const char *);
void f(char *to) { memcpy(to, init_task, 3); puts(to); _printk(to); }
"""


@pytest.fixture(scope="session")
def release(kernels: list[KernelTarget]) -> str:
    return kernels[0].release


@pytest.fixture(scope="session")
def table(release: str) -> SymbolTable:
    return images.symbols(release)


@pytest.fixture(scope="session")
def kallsyms(table: SymbolTable) -> str:
    return "".join(f"{one.address:016x} {one.type} {one.name}\n" for one in table.symbols)


def address(table: SymbolTable, name: str) -> str:
    return f"{table.resolve(name).address:#x}"


def made(kbridge: Kbridge, out: Path, *words: str | Path) -> Path:
    done = kbridge("gen-libkernel", "-o", out, *words)
    assert done.returncode == 0, done.stderr
    return out


def compiled(folder: Path, source: str, *flags: str | Path) -> Path:
    (folder / "source.c").write_text(source)
    proc.run(["gcc", "-O1", folder / "source.c", *flags, "-o", folder / "out"])
    return folder / "out"


def test_both_files_as_others_read_them(
    kbridge: Kbridge, kernels: list[KernelTarget], tmp_path: Path
) -> None:
    for kernel in kernels:
        table = images.symbols(kernel.release)
        out = tmp_path / kernel.release / "libkernel.so"
        verify = ["--verify"] if kernel is kernels[0] else []
        done = kbridge("gen-libkernel", "--kernel", kernel.release, "-o", out, *verify)
        assert done.returncode == 0, done.stderr
        expected = {one.name: one.address for one in table.resolvable()}
        assert f"{len(expected)} symbols of vmlinuz-{kernel.release}" in done.stderr
        assert f"({len(table.ambiguous())} names with several definitions left out)" in done.stderr
        with out.open("rb") as stream:
            symbols = list(ELFFile(stream).get_section_by_name(".dynsym").iter_symbols())[1:]
        assert {one.name: one["st_value"] for one in symbols} == expected


def test_the_note(kbridge: Kbridge, release: str, table: SymbolTable, tmp_path: Path) -> None:
    out = made(kbridge, tmp_path / "libkernel.so", "--kernel", release)
    for file in (out, tmp_path / "libkernel.so.stub"):
        with file.open("rb") as stream:
            notes = list(ELFFile(stream).get_section_by_name(".note.kbridge").iter_notes())
        kernel, symbols = (note["n_descdata"] for note in notes)
        assert kernel == f"{release}\0{table.build_id}\0".encode()
        assert symbols == struct.pack("<Q", 0) + f"vmlinuz-{release}\0".encode()
        shown = kbridge("inspect", file).stdout
        assert f"symbols of  vmlinuz-{release}, KASLR slide 0x0\n" in shown


def test_the_same_input_gives_the_same_bytes(
    kbridge: Kbridge, kallsyms: str, tmp_path: Path
) -> None:
    contents = []
    for name in ("one", "another folder"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "kallsyms").write_text(kallsyms)
        out = made(kbridge, folder / "libkernel.so", "--symbols", folder / "kallsyms")
        contents.append((out.read_bytes(), (folder / "libkernel.so.stub").read_bytes()))
    assert contents[0] == contents[1]


@pytest.mark.parametrize("how", ["-L", "pkg-config"])
def test_a_program_linked_as_the_command_says(
    how: str, kbridge: Kbridge, release: str, table: SymbolTable, tmp_path: Path
) -> None:
    """The right file is found, the addresses are the run-time file's, memcpy stays libc's."""
    out = made(kbridge, tmp_path / "a folder/libkernel.so", "--kernel", release)
    folder = out.with_name("libkernel.so.link")
    if how == "-L":
        words = f'-L "{folder}" -lkernel'
    else:
        env = {**os.environ, "PKG_CONFIG_PATH": str(folder)}
        words = (
            subprocess.run(
                ["pkg-config", "--libs", "libkernel"], env=env, capture_output=True, check=True
            )
            .stdout.decode()
            .strip()
        )
    (tmp_path / "app.c").write_text(APP)
    direct = subprocess.run(f"gcc app.c -fPIE {words}", shell=True, cwd=tmp_path, check=False)
    assert direct.returncode, "code that needs the address at link time must not link"
    for flags in ("-pie -fPIC", "-no-pie -fPIC", "-pie -fPIC -Wl,-z,now"):
        subprocess.run(f"gcc app.c {flags} {words} -o app", shell=True, cwd=tmp_path, check=True)
        listed = proc.run(["readelf", "-W", "--dyn-syms", tmp_path / "app"]).stdout
        assert "ABS" not in listed  # ld copied no address
        env = {**os.environ, "LD_LIBRARY_PATH": str(out.parent)}
        said = proc.run([tmp_path / "app"], env=env).stdout.split()
        memcpy = address(table, "memcpy")
        assert said == [memcpy, address(table, "init_task"), memcpy, "libc's"]


def test_only_what_objects_need(kbridge: Kbridge, release: str, tmp_path: Path) -> None:
    """Kernel-style objects say plain names; renamed as the command says they link and run."""
    object_ = compiled(tmp_path, KMOD_STYLE, "-c", "-fPIC", "-ffreestanding")
    out = tmp_path / "libkernel.so"
    done = kbridge("gen-libkernel", "--kernel", release, "-o", out, "--only-needed", object_)
    assert done.returncode == 0, done.stderr
    assert "wrote" in done.stderr
    assert "4 symbols" in done.stderr  # and _text
    assert "left out, for they are not this kernel's: puts" in done.stderr
    renames = tmp_path / "libkernel.so.redefine-syms"
    assert renames.read_text().splitlines() == [
        f"{name} {name}@LINUX_KERNEL" for name in ("_printk", "init_task", "memcpy")
    ]
    proc.run(["objcopy", f"--redefine-syms={renames}", object_])
    folder = tmp_path / "libkernel.so.link"
    linked = tmp_path / "lib.so"
    proc.run(["gcc", "-shared", object_, "-L", folder, "-lkernel", "-o", linked])
    for file in (object_, linked):  # now that they say whose their names are
        again = tmp_path / "again.so"
        done = kbridge("gen-libkernel", "--kernel", release, "-o", again, "--only-needed", file)
        assert done.returncode == 0, done.stderr
        assert "4 symbols" in done.stderr  # and _text
        assert again.read_bytes() == out.read_bytes()


def test_only_needed_refuses(kbridge: Kbridge, release: str, tmp_path: Path) -> None:
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    bad = {
        compiled(nothing, "int x;", "-c"): "need nothing of the kernel",
        tmp_path / "none.o": "No such file",
        Path(__file__): "not an ELF file",
    }
    other = 'extern char x[]; __asm__(".symver x, no_such_thing@LINUX_KERNEL"); char *y = x;'
    unknown = tmp_path / "unknown"
    unknown.mkdir()
    bad[compiled(unknown, other, "-c")] = "has no symbol no_such_thing"
    for file, says in bad.items():
        out = tmp_path / "libkernel.so"
        done = kbridge("gen-libkernel", "--kernel", release, "-o", out, "--only-needed", file)
        refused(done, says)
        assert not out.exists()


def test_a_linker_script(
    kbridge: Kbridge, release: str, table: SymbolTable, tmp_path: Path
) -> None:
    script = made(kbridge, tmp_path / "kernel.lds", "--script", "--kernel", release)
    memcpy = address(table, "memcpy")
    large = ("-fno-pie", "-mcmodel=large")
    for flags in (("-no-pie", *large), ("-static", *large), ("-no-pie", "-fPIC")):
        app = compiled(tmp_path, APP, script, *flags)
        said = proc.run([app]).stdout.split()
        assert said == [memcpy, address(table, "init_task"), memcpy, "libc's"]
    for flags in (("-pie", "-fPIE"), ("-static-pie", "-fPIE")):
        with pytest.raises(Exception, match="failed") as caught:
            compiled(tmp_path, APP, script, *flags)
        assert "link with -no-pie" in str(getattr(caught.value, "stderr", ""))
    with pytest.raises(Exception, match="failed"):
        compiled(tmp_path, APP, script, "-shared", "-fPIC")
    made(kbridge, script, "--script", "--kernel", release)  # may be replaced
    source = tmp_path / "source.c"
    refused(kbridge("gen-libkernel", "--script", "--kernel", release, "-o", source), "not replaced")


def test_addresses_of_a_boot_are_secret(kbridge: Kbridge, kallsyms: str, tmp_path: Path) -> None:
    """Text whose kernel KASLR has moved tells the slide, and so does what is made of it."""
    slide = 0x2A00000
    moved = []
    for line in kallsyms.splitlines():
        value = int(line[:16], 16)
        moved.append(f"{value + slide if value >> 63 else value:016x}{line[16:]}\n")
    (tmp_path / "kallsyms").write_text("".join(moved))
    out = made(kbridge, tmp_path / "libkernel.so", "--symbols", tmp_path / "kallsyms")
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "libkernel.so.stub").stat().st_mode) == 0o755
    with out.open("rb") as stream:
        notes = list(ELFFile(stream).get_section_by_name(".note.kbridge").iter_notes())
    assert notes[1]["n_descdata"] == struct.pack("<Q", slide) + b"kallsyms\0"


def test_module_symvers(
    kbridge: Kbridge, kernels: list[KernelTarget], table: SymbolTable, tmp_path: Path
) -> None:
    """The exported symbols, with the addresses of that kernel's image."""
    symvers = kernels[0].kdir / "Module.symvers"
    out = made(kbridge, tmp_path / "libkernel.so", "--symbols", symvers)
    listed = proc.run(["nm", "-D", out]).stdout
    assert f"{table.resolve('_printk').address:016x} A _printk@LINUX_KERNEL\n" in listed
    assert " do_sys_openat2@" not in listed
    copy = tmp_path / "Module.symvers"
    copy.write_bytes(symvers.read_bytes())
    done = kbridge("gen-libkernel", "--symbols", copy, "-o", tmp_path / "other.so")
    refused(done, "does not say whose it is")
    made(kbridge, tmp_path / "o.so", "--symbols", copy, "--kernel", kernels[0].release)
    assert (tmp_path / "o.so").read_bytes() != b""
    if len(kernels) > 1:
        words = ("--symbols", copy, "--kernel", kernels[-1].release, "-o", tmp_path / "other.so")
        refused(kbridge("gen-libkernel", *words), "so this is another kernel's")
    assert not (tmp_path / "other.so").exists()


def refused(done: subprocess.CompletedProcess[str], says: str) -> None:
    assert done.returncode in (1, 2), done.stderr
    assert says in done.stderr
    assert [line.partition(": ")[2][:5] for line in done.stderr.splitlines()] == ["error", "hint:"]


def arm64(data: bytes) -> bytes:
    return b"\x7fELF\2\1\1" + bytes(9) + struct.pack("<HHI", 2, 183, 1) + data[24:]


def in_text(change: Callable[[str], str]) -> Callable[[str], bytes]:
    return lambda text: change(text).encode()


BAD_TEXT: dict[str, tuple[Callable[[str], bytes], str]] = {
    "empty": (in_text(lambda _: ""), "no symbols in it"),
    "cut off": (lambda text: text.encode()[: len(text) // 2], "cut off"),
    "binary": (lambda text: b"\0\1\2" + text.encode(), "not a kernel image"),
    "no text": (lambda text: b"\xff\xfe" + text.encode(), "line 1 is no symbol"),
    "CR LF": (in_text(lambda text: text.replace("\n", "\r\n")), "ends in CR LF"),
    "backwards": (in_text(lambda text: "\n".join(text.split("\n")[-2::-1]) + "\n"), "not sorted"),
    "all zero": (
        in_text(lambda text: "".join(f"{0:016x}{one[16:]}\n" for one in text.splitlines())),
        "all addresses are zero",
    ),
    "a long name": (
        in_text(lambda text: f"{text}ffffffffffffffff T {'x' * 5000}\n"),
        "a name of 5000 characters",
    ),
    "a name with a version": (
        in_text(lambda text: f"{text}ffffffffffffffff T memcpy@GLIBC\n"),
        "cannot be the name of an ELF symbol",
    ),
    "a name with a space": (in_text(lambda text: f"{text}ffffffffffffffff T a b\n"), "no symbol"),
}


@pytest.mark.parametrize("what", BAD_TEXT)
def test_bad_text(what: str, kbridge: Kbridge, kallsyms: str, tmp_path: Path) -> None:
    spoil, says = BAD_TEXT[what]
    (tmp_path / "kallsyms").write_bytes(spoil(kallsyms))
    out = tmp_path / "out"
    out.mkdir()
    done = kbridge("gen-libkernel", "--symbols", tmp_path / "kallsyms", "-o", out / "libkernel.so")
    refused(done, says)
    assert list(out.iterdir()) == []


BAD_IMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "cut off": (lambda data: data[: len(data) // 2], "cut off"),
    "damaged": (lambda data: data[:1_000_000] + bytes(5000) + data[1_005_000:], "is damaged"),
    "of arm64": (arm64, "EM_AARCH64"),
    "of 32 bits": (lambda data: data[:0x236] + b"\0\0" + data[0x238:], "32-bit"),
    "zeros": (lambda data: bytes(len(data)), "not a kernel image"),
}


@pytest.mark.parametrize("what", BAD_IMAGES)
def test_bad_images(what: str, kbridge: Kbridge, release: str, tmp_path: Path) -> None:
    spoil, says = BAD_IMAGES[what]
    (tmp_path / "vmlinuz").write_bytes(spoil(images.find(release).vmlinuz.read_bytes()))
    out = tmp_path / "out"
    out.mkdir()
    done = kbridge("gen-libkernel", "--symbols", tmp_path / "vmlinuz", "-o", out / "libkernel.so")
    refused(done, says)
    assert list(out.iterdir()) == []


def test_outputs_that_cannot_be(kbridge: Kbridge, release: str, tmp_path: Path) -> None:
    def generate(out: Path, **how: Any) -> subprocess.CompletedProcess[str]:
        return kbridge("gen-libkernel", "--kernel", release, "-o", out, **how)

    (tmp_path / "file").write_text("mine\n")
    refused(generate(tmp_path / "file"), "so it is not replaced")
    refused(generate(tmp_path), "is a folder")
    refused(generate(tmp_path / "file/libkernel.so"), "file is no folder")
    refused(generate(Path("/proc/libkernel.so")), "cannot write /proc/libkernel.so")
    (tmp_path / "b.so.link").write_text("mine\n")
    refused(generate(tmp_path / "b.so"), "is there and no folder")

    # as where the disk is full: the run-time file fits, the stub no more
    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))

    folder = tmp_path / "full"
    folder.mkdir()
    (folder / "c.so").write_bytes(b"\x7fELF old")
    refused(generate(folder / "c.so", preexec_fn=small), f"cannot write {folder / 'c.so'}")
    assert [path.name for path in folder.iterdir()] == ["c.so"]
    assert (folder / "c.so").read_bytes() == b"\x7fELF old"


def test_timings_name_each_stage(kbridge: Kbridge, kallsyms: str, tmp_path: Path) -> None:
    (tmp_path / "kallsyms").write_text(kallsyms)
    words = ("--symbols", tmp_path / "kallsyms", "-o", tmp_path / "libkernel.so", "--timings")
    done = kbridge("gen-libkernel", *words)
    rows = [line.split(maxsplit=2) for line in done.stderr.splitlines() if " s  " in line]
    stages = ["read the symbols", "choose", "make", "write", "read back", "in all"]
    assert [name for _, _, name in rows] == stages
    seconds = [float(number) for number, _, _ in rows]
    assert abs(sum(seconds[:-1]) - seconds[-1]) < 0.01


def test_a_file_of_another_kernel_than_asked_for(
    kbridge: Kbridge, release: str, tmp_path: Path
) -> None:
    words = ("--symbols", images.find(release).vmlinuz, "--kernel", "5.10.0-1-amd64")
    done = kbridge("gen-libkernel", *words, "-o", tmp_path / "libkernel.so")
    refused(done, f"of kernel {release}, and --kernel says 5.10.0-1-amd64")
    assert list(tmp_path.iterdir()) == []


def test_a_million_lines(kbridge: Kbridge, tmp_path: Path) -> None:
    rows = (Symbol(0xFFFFFFFF81000000 + 16 * n, "T", f"name_{n}") for n in range(1_000_000))
    text = "".join(f"{one.address:016x} {one.type} {one.name}\n" for one in rows)
    (tmp_path / "kallsyms").write_text(text)
    out = made(kbridge, tmp_path / "libkernel.so", "--symbols", tmp_path / "kallsyms")
    last = proc.run(["nm", "-D", out]).stdout.splitlines()
    assert len(last) == 1_000_000
    assert f"{0xFFFFFFFF81000000 + 16 * 999_999:016x} T name_999999" in text
    assert any(line.endswith("A name_999999@LINUX_KERNEL") for line in last)


def test_verify_finds_what_ld_so_would_not(tmp_path: Path) -> None:
    """A file whose hash table is wrong reads back well, but ld.so finds nothing in it."""
    symbols = SymbolTable([Symbol(0xFFFFFFFF81000000, "T", "_text")], "", "", "").resolvable()
    library = libkernel.runtime(symbols, libkernel.Origin("", ""))
    data = bytearray(library.content())
    out = tmp_path / "libkernel.so"
    out.write_bytes(data)
    library.cross_check(out)
    with out.open("rb") as stream:
        place = ELFFile(stream).get_section_by_name(".gnu.hash")["sh_offset"]
    data[place + 16 : place + 24] = bytes(8)  # the filter
    out.write_bytes(data)
    library.compare(out)
    with pytest.raises(Exception, match=r"ld\.so _text is 0"):
        library.cross_check(out)


def test_what_lief_does_to_absolute_symbols_is_found(tmp_path: Path) -> None:
    """LIEF reads well, but moves absolute symbols with the segments that it moves: no file that it
    has written passes."""
    symbols = SymbolTable([Symbol(0xFFFFFFFF81000000, "T", "_text")], "", "", "").resolvable()
    library = libkernel.runtime(symbols, libkernel.Origin("", ""))
    out = tmp_path / "libkernel.so"
    out.write_bytes(library.content())
    library.cross_check(out)
    binary = lief.ELF.parse(str(out))
    binary.add_library("libother.so")
    binary.write(str(out))
    with pytest.raises(Exception, match="does not read back as it was written"):
        library.compare(out)
    with pytest.raises(Exception, match=r"to readelf _text is .*, not"):
        library.cross_check(out)
