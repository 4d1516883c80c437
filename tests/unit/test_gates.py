# SPDX-License-Identifier: GPL-2.0-only
"""The generated assembly: it assembles, links every way, and holds what was packed."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from kbridge import elf as reader
from kbridge import gates, libkernel, link, pack, runtime
from kbridge.errors import KbridgeError

KMOD = """
extern int printk(const char *, ...);
extern char *strcpy(char *, const char *);
extern long __attribute__((weak)) maybe;
long state = 3;
int f(int x) { return printk("%d %p", x, &maybe) + state++; }
char *g(char *t) { return strcpy(t, "from the kernel's strcpy"); }
"""
APP = """
#include <string.h>
int f(int x);
char *g(char *t);
int main(int c, char **v) { char b[8]; strcpy(b, v[0] + c); return f(3) + b[0] + !g(b); }
"""
NAMES = {"printk": True, "strcpy": True, "maybe": False, "_text": True}


class Linked:
    """A kmod and an app, built in a folder, as the stages leave them."""

    def __init__(self, folder: Path, mode: str = "libkernel", shared: bool = False) -> None:
        self.mode = mode
        self.image = self._pack(folder)
        assembly = folder / "kmod.kb.S"
        text_base = 0xFFFFFFFF81000000 if mode == "script" else 0
        binding = gates.Binding("6.1", "ab" * 20, text_base, zero={"maybe"})
        gates.write(self.image, "kmod", binding, assembly)
        self.object = folder / "kmod.kb.o"
        subprocess.run(gates.assemble_command(assembly, self.object), check=True)
        self.addresses = [0xFFFFFFFF81000000 + 16 * k for k in range(3)] if mode == "script" else []
        kernel = self._kernel(folder)
        (folder / "app.c").write_text(APP)
        app = folder / "app.o"
        pic = ["-fPIC"] if shared else []
        subprocess.run(["gcc", *pic, "-c", "-o", app, folder / "app.c"], check=True)
        self.output = folder / "program"
        command = link.command(
            ["gcc"],
            [app, self.object],
            kernel,
            runtime.library(),
            self.output,
            shared=shared,
        )
        subprocess.run(command, check=True)

    def _pack(self, folder: Path) -> pack.Image:
        (folder / "kmod.c").write_text(KMOD)
        flags = ["-O2", "-g", "-mcmodel=kernel", "-fno-pie", "-fno-asynchronous-unwind-tables"]
        source, output = folder / "kmod.c", folder / "kmod.o"
        subprocess.run(["gcc", *flags, "-fno-builtin", "-c", "-o", output, source], check=True)
        return pack.pack(output)

    def _kernel(self, folder: Path) -> Path:
        names = [entry.name for entry in self.image.imports]
        if self.mode == "script":
            file = folder / "kernel.lds"
            file.write_text(link.script(dict(zip(names, self.addresses, strict=True))))
            return file
        file = folder / libkernel.SONAME
        libkernel.write_stub(NAMES, file, release="6.1", build_id="ab" * 20)
        return file

    def verify(self) -> None:
        names = [entry.name for entry in self.image.imports]
        link.verify(self.output, names, bytes(self.image.content), self.addresses)


CASES = [("libkernel", False), ("libkernel", True), ("script", False), ("script", True)]


@pytest.mark.parametrize(("mode", "shared"), CASES)
def test_links_and_reads_back(tmp_path: Path, mode: str, shared: bool) -> None:
    Linked(tmp_path, mode, shared).verify()


def test_no_file_of_the_working_folder_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / 'a "quoted" \\ name'
    folder.mkdir()
    (tmp_path / "kmod.kb.S.bin").write_bytes(bytes(1 << 20))
    monkeypatch.chdir(tmp_path)
    Linked(folder).verify()


def test_the_image_has_pages_of_its_own(tmp_path: Path) -> None:
    made = Linked(tmp_path)
    with made.output.open("rb") as stream:
        elf = ELFFile(stream)
        start = reader.section(elf, ".kbridge")["sh_addr"]
        end = start + made.image.end
        for section in elf.iter_sections():
            first, last = section["sh_addr"], section["sh_addr"] + section["sh_size"]
            apart = last <= start or first >= end
            assert apart or section.name == ".kbridge" or not section["sh_addr"]


def test_app_and_kmod_each_get_their_own_strcpy(tmp_path: Path) -> None:
    made = Linked(tmp_path)
    relocations = subprocess.run(
        ["readelf", "-rW", made.output], capture_output=True, text=True, check=True
    ).stdout
    assert "strcpy@GLIBC" in relocations
    assert "strcpy@LINUX_KERNEL" in relocations


def test_the_note_names_the_kernel(tmp_path: Path) -> None:
    made = Linked(tmp_path)
    with made.output.open("rb") as stream:
        segments = [s for s in ELFFile(stream).iter_segments() if s["p_type"] == "PT_NOTE"]
        notes = [note for segment in segments for note in segment.iter_notes()]
    wanted = [note for note in notes if note["n_name"] == "kbridge"]
    kernel, places = [note["n_descdata"] for note in wanted]
    assert kernel == f"6.1\0{'ab' * 20}\0".encode()
    known = [place.decode().split() for place in places.split(b"\0")[:-1]]
    names = {name: (kind, int(size, 16)) for kind, _, size, name in known}
    assert {".text", ".data"} <= set(names)
    assert {kind for kind, _ in names.values()} <= {"i", "-"}
    assert names[".data"] == ("i", 8)


def test_a_changed_byte_is_found(tmp_path: Path) -> None:
    made = Linked(tmp_path)
    content = bytearray(made.output.read_bytes())
    place = content.find(bytes(made.image.content[:64]))
    content[place + 5] ^= 1
    made.output.write_bytes(content)
    with pytest.raises(KbridgeError, match="the image moved"):
        made.verify()


@pytest.mark.parametrize("kind", ["-pie", "-no-pie"])
def test_script_addresses_are_the_same_in_both_kinds_of_program(tmp_path: Path, kind: str) -> None:
    made = Linked(tmp_path, "script")
    objects = [tmp_path / "app.o", made.object, tmp_path / "kernel.lds", runtime.library()]
    subprocess.run(["gcc", kind, "-o", made.output, *objects], check=True)
    made.verify()


def test_addresses_that_ld_so_would_move_are_found(tmp_path: Path) -> None:
    """A linker script without HIDDEN is the trap: exported, so bound anew at run time."""
    made = Linked(tmp_path, "script", shared=True)
    script = tmp_path / "kernel.lds"
    script.write_text(script.read_text().replace("HIDDEN(", "").replace(");", ";"))
    objects = [tmp_path / "app.o", made.object, script, runtime.library()]
    subprocess.run(["gcc", "-shared", "-o", made.output, *objects], check=True)
    with pytest.raises(KbridgeError, match="would be relocated by"):
        made.verify()


def test_what_the_structures_hold(tmp_path: Path) -> None:
    made = Linked(tmp_path)
    binary = (tmp_path / "kmod.kb.S.bin").read_bytes()
    assert binary[: made.image.end] == bytes(made.image.content)
    first = made.image.records[0]
    record = struct.pack("<QQq", first.offset, first.symbol << 32 | first.type, first.addend)
    assert binary[made.image.end : made.image.end + 24] == record
    assert b"?maybe\0" in binary


def header_value(name: str) -> int:
    header = Path(__file__).parents[2] / "kernel/kelevate/kelevate.h"
    program = f'#include "{header}"\nunsigned long value = {name};\n'
    done = subprocess.run(
        ["gcc", "-x", "c", "-S", "-o", "-", "-"],
        input=program,
        capture_output=True,
        text=True,
        check=True,
    )
    word = next(line for line in done.stdout.splitlines() if ".quad" in line or ".zero" in line)
    return int(word.split()[1]) if ".quad" in word else 0


def test_numbers_are_those_of_the_header() -> None:
    assert header_value("KELEVATE_CALL") == gates._CALL
    assert header_value("KELEVATE_DONE") == gates._DONE
    assert header_value("KELEVATE_ABI") == gates._ABI
    assert header_value("KELEVATE_MAX_STACK_WORDS") == pack.MAX_STACK_WORDS
    assert header_value("KELEVATE_MAX_IMAGE") == pack.MAX_IMAGE
    assert header_value("KELEVATE_SYM_PERCPU") == pack.SYM_PERCPU
    assert header_value("KELEVATE_SYM_MODULE") == pack.SYM_MODULE
    assert header_value("KELEVATE_SYM_ABS") == pack.SYM_ABS
    assert header_value("KELEVATE_SYM_IMPORT") == pack.SYM_IMPORT
    assert header_value("KELEVATE_TABLES") == len(pack.sections.TABLES)
    assert header_value("sizeof(((struct kelevate_image *)0)->name)") == gates._NAME_SIZE
