# SPDX-License-Identifier: GPL-2.0-only
"""Writes what a debugger needs to know of a kmod: an ELF file laid out as its image is.

The joined object has the debug information, but each of its sections starts at 0; the image has
the layout, but no debug information.  Here ld puts the one at the places of the other.  The file
has the image's bytes as .text, .rodata and .data from address 0, so that one offset, the address
at which kelevate placed the image, is all that a debugger of the kernel has to be told.

It is a file of its own on purpose.  If the program itself had line numbers for the image, a
breakpoint that a user sets on a kmod function would be written into the program's copy of it,
which is what kelevate takes into the kernel.  In the program the gates stand for these lines.
"""

from __future__ import annotations

from pathlib import Path

from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile

from kbridge import elf as reader
from kbridge import paths, proc
from kbridge.errors import KbridgeError
from kbridge.pack import Image

SUFFIX = ".kmod.debug"  # of the file's name, after the program's
_HINT = "build without -g (scons: debug=1), and report this"


def _placed(image: Image) -> list[tuple[int, int, str]]:
    """Offset, size and name of every section in the image.

    Of per-CPU data there are as many as processors; here it is where the initial values are.
    """
    found = []
    for one in image.places:
        if one.kind == "i":
            found.append((one.offset, one.size, one.name))
        elif one.kind == "p" and image.percpu[1]:
            found.append((image.percpu[0] + one.offset, one.size, one.name))
    return sorted(found)


def _parts(image: Image) -> dict[str, tuple[int, int]]:
    """The image's parts that have something in them: start and end."""
    ends = {".text": image.text_end, ".rodata": image.rodata_end, ".data": image.end}
    parts, start = {}, 0
    for name, end in ends.items():
        if any(start <= offset < end and size for offset, size, _ in _placed(image)):
            parts[name] = (start, end)
        start = end
    return parts


def _script(image: Image) -> str:
    """A linker script that puts each section where the image has it."""
    lines = ["SECTIONS", "{"]
    left = _placed(image)
    for part, (start, end) in _parts(image).items():
        lines.append(f"\t{part} {start:#x} : {{")
        # up to and with its end: an empty section may lie there
        while left and left[0][0] <= end - bool(left[0][1]):
            offset, _, name = left.pop(0)
            lines.append(f'\t\t. = {offset - start:#x}; *("{name}")')
        lines.append(f"\t\t. = {end - start:#x};\n\t}}")
    left_out = " ".join(f'*("{one.name}")' for one in image.places if one.kind == "-")
    lines.append(f"\t/DISCARD/ : {{ *(.discard*) *(.comment) {left_out} }}\n}}")
    return "\n".join(lines) + "\n"


def _unbind(joined: Path, image: Image, folder: Path) -> Path:
    """The object with code and data as plain bytes: only debug information is relocated.

    The kernel's names go, lest a debugger take their zeros for the kernel's addresses.  Sections
    lose the flags by which ld would merge strings, and .bss becomes bytes like the others.
    """
    placed = {name for _, _, name in _placed(image)}
    options = [f"--remove-relocations={name}" for name in sorted(placed)]
    with joined.open("rb") as stream:
        elf = ELFFile(stream)
        options += [
            f"--set-section-flags={section.name}=alloc,load,contents,data"
            for section in elf.iter_sections()
            if section.name in placed
            and (section["sh_flags"] & SH_FLAGS.SHF_MERGE or section["sh_type"] == "SHT_NOBITS")
        ]
        symbols = reader.section(elf, ".symtab").iter_symbols()
        names = {symbol.name for symbol in symbols if symbol["st_shndx"] == "SHN_UNDEF"}
    undefined, bytes_, output = folder / "undefined", folder / "bytes.o", folder / "unbound.o"
    undefined.write_text("\n".join(sorted(names - {""})))
    proc.run(["objcopy", *options, joined, bytes_])
    if not names - {""}:
        return bytes_
    proc.run(["objcopy", f"--strip-symbols={undefined}", bytes_, output])
    return output


def write(joined: Path, image: Image, output: Path) -> None:
    """Write `output`: debug information and symbols of the object, placed as `image` is."""
    with paths.scratch("kbridge-debug-") as folder:
        linked, script = folder / "linked", folder / "script.lds"
        script.write_text(_script(image))
        options = ["--build-id=none", "-z", "noexecstack"]
        unbound = _unbind(joined, image, folder)
        proc.run(["ld", "-T", script, *options, "-o", linked, unbound])
        options = []
        for part, (start, end) in _parts(image).items():
            content = folder / part.lstrip(".")
            content.write_bytes(image.content[start:end])
            options += ["--update-section", f"{part}={content}"]
        proc.run(["objcopy", *options, linked])
        verify(linked, image)
        paths.write_atomically(output, linked.read_bytes())


def lines(file: Path, image: Image) -> dict[str, tuple[Path, int]]:
    """Source file and line of each function that has a gate, from the debug file."""
    gates = image.gates
    argv = ["addr2line", "-e", str(file), *(hex(gate.offset) for gate in gates)]
    found = {}
    for gate, place in zip(gates, proc.run(argv).stdout.splitlines(), strict=True):
        path, _, line = place.partition(" (discriminator")[0].rpartition(":")
        if line.isdigit() and int(line):
            found[gate.name] = (Path(path), int(line))
    return found


def verify(file: Path, image: Image) -> None:
    """Raise KbridgeError unless the file has the image's bytes, and its functions in place."""
    with file.open("rb") as stream:
        elf = ELFFile(stream)
        for part, (start, end) in _parts(image).items():
            section = reader.section(elf, part)
            wanted = bytes(image.content[start:end])
            if section is None or section["sh_addr"] != start or section.data() != wanted:
                raise KbridgeError(f"the debug file's {part} is not the image's", hint=_HINT)
        table = reader.section(elf, ".symtab")
        found = {(symbol.name, symbol["st_value"]) for symbol in table.iter_symbols()}
        for name, offset, _ in image.functions:
            if (name, offset) not in found:
                raise KbridgeError(
                    f"the debug file has {name} not at {offset:#x}, where the image has it",
                    hint=_HINT,
                )
