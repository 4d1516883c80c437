# SPDX-License-Identifier: GPL-2.0-only
"""What of a kernel's interface a program uses: recorded when it is built, compared with another
kernel when it is to run there.

What the record holds and what it cannot hold (bodies of inline functions, values of macros) is in
docs/abi.md.  Not for deciding which kernel a program runs on (verbs/run.py).
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kbridge import dwarf, layouts, log, options
from kbridge import elf as reader
from kbridge.errors import KbridgeError
from kbridge.kernels import headers, kbuild
from kbridge.kernels import image as images
from kbridge.kernels import target as targets
from kbridge.kernels.headers import Export
from kbridge.kernels.image import KernelImage
from kbridge.kernels.kbuild import KbuildFlags
from kbridge.kernels.target import KernelTarget
from kbridge.layouts import Layouts, Named
from kbridge.symbols import image as symbol_image
from kbridge.symbols import parts
from kbridge.symbols.parts import Parts
from kbridge.symbols.table import AmbiguousSymbol, SymbolTable, UnknownSymbol
from kbridge.vm import modules as module_files

# to libkbridge (runtime/check.c): "RELEASE BUILD_ID DIGEST...", the kernel that was compared
VARIABLE = "KBRIDGE_COMPARED"

_FORM = 1  # of the record
_SHOWN = 3  # differences in a message
_LARGEST = 16 << 20  # bytes of a record, unpacked
_LAYOUT = "module_layout"  # its CRC covers what every module is made of
FEATURES = "arch/x86/include/asm/cpufeatures.h"
# its lines: X86_FEATURE_FPU (0*32 + 0), X86_BUG_F00F X86_BUG(0), NCAPINTS 21
_FEATURE = re.compile(
    r"^#\s*define\s+(X86_(?:FEATURE|BUG)_\w+)\s+(X86_BUG)?"
    r"\s*\(\s*(?:(\d+)\s*\*\s*32\s*\+\s*)?(\d+)",
    re.MULTILINE,
)
_WORDS = re.compile(r"^#\s*define\s+NCAPINTS\s+(\d+)", re.MULTILINE)
# of the tables in an image that the kernel's own functions read: no debug information names them
_TABLES = (
    "alt_instr", "bug_entry", "exception_table_entry", "fixed_percpu_data", "jump_entry",
    "kernel_param", "module", "orc_entry", "paravirt_patch_site", "srcu_struct",
    "static_call_site", "trace_event_call", "tracepoint",
)  # fmt: skip
_TAGS = {
    "DW_TAG_structure_type": "struct",
    "DW_TAG_union_type": "union",
    "DW_TAG_enumeration_type": "enum",
    "DW_TAG_typedef": "typedef",
}
_ORDER = {"struct": 0, "union": 1, "typedef": 2, "enum": 3}
# settings that name things and change no code
_NAMES = frozenset(
    {
        "CONFIG_BUILD_SALT",
        "CONFIG_CC_VERSION_TEXT",
        "CONFIG_DEFAULT_HOSTNAME",
        "CONFIG_LOCALVERSION",
        "CONFIG_MODULE_SIG_KEY",
        "CONFIG_PAHOLE_VERSION",
        "CONFIG_SYSTEM_TRUSTED_KEYS",
        "CONFIG_VERSION_SIGNATURE",
    }
)


@dataclass(frozen=True)
class Interface:
    """`crcs`: of exported symbols.  `others`: symbols without one; `weak`: those that may be
    missing.  `types`: struct, union, enum, typedef to names.  `configuration`: a digest.
    `features`: numbers of processor features; None where the code asks for none, empty where
    the headers did not tell.  `link`: as options.LINK_MODES."""

    crcs: Mapping[str, int] = field(default_factory=dict)
    others: Sequence[str] = ()
    weak: Sequence[str] = ()
    types: Mapping[str, Sequence[str]] = field(default_factory=dict)
    configuration: str = ""
    features: Mapping[str, int] | None = None
    link: str = "libkernel"

    @property
    def named_types(self) -> list[Named]:
        return [(kind, name) for kind, names in self.types.items() for name in names]


# -- the record in a program --


def encode(used: Interface) -> bytes:
    """The record, packed: it is some kilobytes of names."""
    rows = {**vars(used), "crcs": {name: f"{crc:x}" for name, crc in used.crcs.items()}}
    text = json.dumps({"form": _FORM, **rows}, separators=(",", ":"), sort_keys=True)
    return zlib.compress(text.encode(), 9)


def _is_whole(used: Interface) -> bool:
    """Whether every field of a record that was read is of its kind."""
    lists = [used.others, used.weak, *used.types.values()]
    numbers = {} if used.features is None else used.features
    return (
        all(isinstance(names, list) and all(isinstance(n, str) for n in names) for names in lists)
        and used.types.keys() <= set(_TAGS.values())
        and all(isinstance(number, int) for number in numbers.values())
        and isinstance(used.configuration, str)
        and used.link in options.LINK_MODES
    )


def decode(record: bytes) -> Interface:
    """Raises KbridgeError for what encode() did not write."""
    try:
        unpacker = zlib.decompressobj()
        rows = json.loads(unpacker.decompress(record, _LARGEST))
        if rows.pop("form") == _FORM and unpacker.eof:
            crcs = {str(name): int(crc, 16) for name, crc in rows.pop("crcs").items()}
            found = Interface(crcs=crcs, **rows)
            if _is_whole(found):
                return found
    except (zlib.error, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise KbridgeError(
        "what it says of the kernel's interface is damaged, or of another kbridge",
        hint="build it again",
    )


def digest(release: str, build_id: str, record: bytes) -> str:
    """Tells records of programs apart; libkbridge knows by it what was compared."""
    content = f"{release}\0{build_id}\0".encode() + record
    return hashlib.sha256(content).hexdigest()[:32]


# -- when a program is built --


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _settings(settings: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in sorted(settings.items()) if name not in _NAMES}


def _configuration(settings: Mapping[str, str] | None) -> str:
    if settings is None:
        return ""
    return _digest("\n".join(f"{name}={value}" for name, value in _settings(settings).items()))


def _folders(flags: KbuildFlags) -> list[str]:
    """The kernel's own folders of headers, without links."""
    named = [word[2:] for word in flags.compile if word.startswith("-I/")]
    return [*dict.fromkeys([*named, flags.kdir])]


def feature_numbers(text: str) -> dict[str, int]:
    """Each processor feature and flaw of cpufeatures.h, and its bit: flaws follow the features."""
    words = _WORDS.search(text)
    found = {}
    for name, flaw, word, bit in _FEATURE.findall(text):
        first = int(words[1]) if flaw and words else int(word or 0)
        found[name] = 32 * first + int(bit)
    return found


def _features(target: KernelTarget) -> dict[str, int]:
    return feature_numbers(headers.file(target.kdir, FEATURES) or "")


def _asks_for_features(elf: Any, types: Mapping[str, Sequence[str]]) -> bool:
    """Whether the numbers can be in the code: in alternatives, or as bits of cpuinfo_x86."""
    alternatives = reader.section(elf, ".altinstructions")
    return bool(alternatives and alternatives["sh_size"]) or "cpuinfo_x86" in types["struct"]


def _kernel_files(unit: Any, folders: tuple[str, ...]) -> list[bool]:
    """For each number of a file in the unit's line table, whether it is one of the kernel's."""
    program = unit.dwarfinfo.line_program_for_CU(unit)
    if program is None:
        return []
    top = [] if program["version"] >= 5 else [b""]
    directories = [*top, *program["include_directory"]]
    found = [] if program["version"] >= 5 else [False]
    for entry in program["file_entry"]:
        at = entry.dir_index
        folder = directories[at] if at < len(directories) else b""
        text = folder.decode(errors="replace") if isinstance(folder, bytes) else str(folder)
        found.append(text.startswith(folders))
    return found


def types_of(elf: Any, folders: Sequence[str]) -> dict[str, list[str]]:
    """The named types whose whole the object knows and that files in `folders` define."""
    found: dict[str, set[str]] = {kind: set() for kind in _TAGS.values()}
    debug = dwarf.information(elf)
    for unit in debug.iter_CUs() if debug else ():
        kernels = _kernel_files(unit, tuple(folders))
        for die in unit.get_top_DIE().iter_children():
            kind = _TAGS.get(die.tag)
            attributes = die.attributes
            if not kind or "DW_AT_name" not in attributes or "DW_AT_declaration" in attributes:
                continue
            file = attributes.get("DW_AT_decl_file")
            if file is None or not (file.value < len(kernels) and kernels[file.value]):
                continue
            found[kind].add(attributes["DW_AT_name"].value.decode(errors="replace"))
    return {kind: sorted(names) for kind, names in found.items()}


def record(
    object_: Path,
    imports: Mapping[str, bool],
    exports: Mapping[str, Export],
    target: KernelTarget,
    link: str,
) -> Interface:
    """What a joined kmod object uses; `imports` maps its kernel names to whether they are weak."""
    from elftools.elf.elffile import ELFFile

    flags = kbuild.flags(target)
    known = {name: exports[name].crc for name in imports if name in exports}
    crcs = {name: crc for name, crc in sorted(known.items()) if crc}
    if _LAYOUT in exports:
        crcs[_LAYOUT] = exports[_LAYOUT].crc
    with object_.open("rb") as stream:
        elf = ELFFile(stream)
        types = types_of(elf, _folders(flags))
        asks = _asks_for_features(elf, types)
    return Interface(
        crcs=crcs,
        others=sorted(set(imports) - set(crcs)),
        weak=sorted(name for name, weak in imports.items() if weak),
        types=types,
        configuration=_configuration(headers.configuration(target.kdir)),
        features=_features(target) if asks else None,
        link=link,
    )


# -- when it is to run on another kernel --


@dataclass(frozen=True)
class Kernel:
    """One of the two that are compared.  Without headers `target` is None."""

    image: KernelImage
    table: SymbolTable
    parts: Parts
    target: KernelTarget | None

    @functools.cached_property
    def exports(self) -> dict[str, Export]:
        return (headers.exports(self.target.kdir) if self.target else None) or {}

    @functools.cached_property
    def settings(self) -> dict[str, str] | None:
        return headers.configuration(self.target.kdir) if self.target else None

    def crc(self, name: str) -> int | None:
        """Of an exported symbol, None for another: the image is right, of its exports, even
        where the headers are of another build."""
        if name in self.parts.crcs:
            return self.parts.crcs[name]
        export = self.exports.get(name)
        return export.crc if export and export.module != "vmlinux" else None

    def layouts(self, names: Iterable[str]) -> Layouts | None:
        """Its types, and those of these modules; None for a kernel without BTF."""
        base = self.parts.btf()
        if base is None:
            return None
        found = []
        for name in names:
            files = module_files.needed(self.image.modules, (name,))
            content = module_files.content(files[-1]) if files else b""
            types = parts.of_module(content, name, base) if content else None
            found += [types] if types else []
        return Layouts(base, found)


def kernel(image: KernelImage) -> Kernel:
    try:
        target = targets.find(image.release)
    except KbridgeError as problem:
        log.detail(problem.message)
        target = None
    return Kernel(image, symbol_image.cached(image.vmlinuz), parts.cached(image.vmlinuz), target)


def _exported(used: Interface, new: Kernel) -> Iterator[str]:
    for name, crc in used.crcs.items():
        found = new.crc(name)
        if found is None:
            gone = not new.table.find(name) and name not in new.exports
            yield f"{name} is not {'in' if gone else 'exported by'} that kernel"
        elif found != crc:
            yield f"{name} has another CRC"


def _unexported(
    used: Interface, new: Kernel, before: Layouts, after: Layouts, needed: set[Named]
) -> Iterator[str]:
    """Symbols without a CRC: they are there, once, and the BTF gives both the same type."""
    for name in used.others:
        try:
            symbol = new.table.resolve(name)
        except UnknownSymbol:
            if name not in used.weak:
                yield f"{name} is not in that kernel"
            continue
        except AmbiguousSymbol as problem:
            yield f"{name} has {len(problem.candidates)} definitions in that kernel"
            continue
        function = symbol.is_function
        old, now = (one.signatures(name, function=function) for one in (before, after))
        if not old or not now:
            yield f"{name} is not exported and not in the BTF, so it cannot be compared"
        elif old != now:
            what = "prototype" if function else "type"
            yield f"{name} has another {what}"
        needed |= before.needs(name, function=function)


def _configured(used: Interface, old: Kernel, new: Kernel) -> Iterator[str]:
    assert new.target
    if used.configuration != _configuration(new.settings):
        before, after = _settings(old.settings or {}), _settings(new.settings or {})
        if _configuration(old.settings) != used.configuration:
            yield "the configuration differs (that of its own kernel is not here to say where)"
        for name in sorted(before.keys() | after.keys()):
            was, now = before.get(name, "n"), after.get(name, "n")
            if was != now and _configuration(old.settings) == used.configuration:
                yield f"{name}={was} became {now}"
    if used.features is not None:
        numbers = _features(new.target)
        moved = [name for name, bit in used.features.items() if numbers.get(name) != bit]
        yield from (f"{name} has another number" for name in moved)
        if not used.features:
            yield f"the numbers of processor features were not recorded: no {FEATURES}"
    if old.parts.orc != new.parts.orc:
        yield "the form of unwind data (ORC) differs"


def compare(used: Interface, old: Kernel, new: Kernel, modules: Sequence[str]) -> list[str]:
    """What of the interface that a program uses is another in the kernel `new`, or cannot be
    compared; a line each, the most telling first.

    `old` is the kernel that it was built for, `new` has headers, `modules` are those whose symbols
    it uses.
    """
    try:
        before, after = old.layouts(modules), new.layouts(modules)
    except KbridgeError as problem:
        return [problem.message]
    if before is None or after is None:
        which = old if before is None else new
        return [f"kernel {which.image.release} has no BTF, so no type can be compared"]
    needed = set(used.named_types)
    needed |= {("struct", name) for name in _TABLES if before.shapes(("struct", name))}
    missing = [*_unexported(used, new, before, after, needed)]
    # structures before enumerations and typedefs: they say more
    changed = layouts.compare(before, after, sorted(needed, key=lambda one: (_ORDER[one[0]], one)))
    changed.sort(key=lambda text: "changed:" not in text)
    return [*changed, *missing, *_exported(used, new), *_configured(used, old, new)]


def _own_kernel(release: str, build_id: str) -> Kernel:
    """The kernel that a program was built for.  Raises KbridgeError where its image is gone."""
    image = images.of_build(release, build_id)
    if image is None:
        try:
            images.find(release)  # fetched, where none of that release is here
        except KbridgeError as problem:
            log.detail(problem.message)
        image = images.of_build(release, build_id)
    if image is None:
        raise KbridgeError(
            f"the image of kernel {release} with build ID {build_id} is not here, and without it "
            "nothing can be compared",
            hint="build the program again for the kernel that it is to run on",
        )
    return kernel(image)


def admit(
    file: Path, built_for: tuple[str, str], recorded: bytes, new: Kernel, modules: Sequence[str]
) -> str:
    """Compare what `file`, built for that release and build ID, uses of the kernel `new`.

    The digest by which libkbridge knows the record.  Raises KbridgeError that names the first
    differences, or what keeps it from being compared.
    """
    release, build_id = built_for
    if not recorded:
        raise KbridgeError(
            f"{file}: it does not say what it uses of kernel {release}",
            hint="it was built by an older kbridge: build it again",
        )
    try:
        used = decode(recorded)
    except KbridgeError as problem:
        raise KbridgeError(f"{file}: {problem.message}", hint=problem.hint) from problem
    if used.link == "script":
        raise KbridgeError(
            f"{file}: it holds addresses of kernel {release} (link=script, or a symbol that was "
            "chosen by its address)",
            hint="build it with link=libkernel, which finds them at run time",
        )
    if new.target is None:
        package = f"linux-headers-{new.image.release}"
        raise KbridgeError(
            f"{file}: there are no headers of kernel {new.image.release} here, and without its "
            "configuration nothing can be compared",
            hint=f"install them with: apt-get install {package}",
        )
    found = compare(used, _own_kernel(release, build_id), new, modules)
    for one in found:
        log.detail(one)
    if found:
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise KbridgeError(
            f"{file} was built for kernel {release} (build ID {build_id}), and what it uses is "
            f"different in {new.image.release} ({new.table.build_id}): "
            f"{'; '.join(found[:_SHOWN])}{more}",
            hint="build it again for that kernel; --verbose lists all differences",
        )
    return digest(release, build_id, recorded)
