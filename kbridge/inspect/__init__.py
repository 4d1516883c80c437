# SPDX-License-Identifier: GPL-2.0-only
"""What a file needs of the kernel and does to it: `inspect()` reads, nothing is run or written.

For programs and libraries that kbridge linked, kmod objects, modules, kernel images, and, to say
that there is no kernel code in it, any other x86-64 ELF file.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kbridge import elf as reader
from kbridge import lines, prototypes
from kbridge.errors import KbridgeError
from kbridge.inspect import (
    code,
    mitigations,
    objects,
    percpu,
    plain,
    program,
    residue,
    source,
    stack,
    symbols,
)
from kbridge.inspect import kernel as kernels
from kbridge.inspect.report import Bound, Gate, Image, Instruction, Interface, Report, Site
from kbridge.inspect.symbols import Needed
from kbridge.inspect.view import PADDING, View

__all__ = ["Report", "inspect"]


@dataclass
class _Subject:
    """A file as its reader left it, before anything is judged."""

    kind: str
    view: View
    bound: Bound = field(default_factory=Bound)
    image: Image | None = None
    needed: list[Needed] = field(default_factory=list)
    external: set[int] = field(default_factory=set)
    percpu: int = 0
    interface: Interface | None = None
    line: Callable[[int], str] = lambda _address: ""


def _linked(elf: Any, bound: Bound, places: list[str]) -> _Subject:
    found = program.read(elf, places)
    interpreter = any(one["p_type"] == "PT_INTERP" for one in elf.iter_segments())
    is_program = interpreter or elf["e_type"] == "ET_EXEC"
    starts = {offset for _, offset, _ in found.gates}
    starts |= {start for start in (found.init, found.exit) if start is not None}
    need = stack.of_gates(found.view)
    image = Image(
        name=found.name,
        **found.sizes,
        code=_code_size(found.view),
        functions=found.view.count_functions(),
        records=found.records,
        module_init=found.init is not None,
        module_exit=found.exit is not None,
        gates=[Gate(name, words, "", need(at, words)) for name, at, words in found.gates],
    )
    return _Subject(
        kind="program" if is_program else "library",
        view=found.view,
        bound=Bound(bound.release, bound.build_id, found.link, modules=bound.modules),
        image=image,
        needed=[Needed(one.name, one.zero, one.module) for one in found.imports],
        external=starts,
        percpu=found.sizes["percpu"],
        interface=_interface(elf),
    )


def _interface(elf: Any) -> Interface | None:
    used = program.interface(elf)
    if used is None:
        return None
    return Interface(
        crcs={name: f"{crc:#010x}" for name, crc in used.crcs.items()},
        without_crc=list(used.others),
        types={kind: list(names) for kind, names in used.types.items()},
        configuration=used.configuration,
        features=None if used.features is None else len(used.features),
    )


def _code_size(view: View) -> int:
    return sum(region.size for region in view.regions if region.executable)


def _gates(elf: Any, found: objects.Relocatable) -> list[Gate]:
    """The gates that kbridge would make; functions of assembly take words in registers."""
    names = {
        one.name: one.start
        for one in found.view.functions
        if one.external and not one.name.startswith((*PADDING, "cleanup_module"))
    }
    known = prototypes.read(elf, names)
    need = stack.of_gates(found.view)
    gates = []
    for name, start in sorted(names.items()):
        one = known.get(name)
        problem = (one.problem or "") if one else ""
        words = 0 if one is None or problem else one.stack_words
        gates.append(Gate(name, words, problem, None if problem else need(start, words)))
    return gates


def _lines(elf: Any, found: objects.Relocatable, name: str) -> Callable[[int], str]:
    table: list[lines.SourceLines] = []

    def line(address: int) -> str:
        if not elf.has_dwarf_info():
            return ""
        if not table:  # slow, so only when there is something to say
            table.append(lines.SourceLines(elf, name))
        region = found.view.region_at(address)
        said = table[0].at(region.index, address - region.start) if region else name
        return "" if said == name else said

    return line


def _relocatable(elf: Any, name: str) -> _Subject:
    found = objects.read(elf)
    is_module = found.is_module
    information = dict(found.modinfo)
    vermagic = information.get("vermagic", "")
    skipped = {objects.THIS_MODULE} | (set() if is_module else {objects.TRACER})
    defined = {function.name for function in found.view.functions}
    image = Image(
        name=information.get("name", "") if is_module else "",
        **found.sizes,
        code=_code_size(found.view),
        functions=found.view.count_functions(),
        records=len(found.view.references),
        module_init="init_module" in defined,
        module_exit="cleanup_module" in defined,
        gates=[] if is_module else _gates(elf, found),
    )
    depends = information.get("depends", "")
    return _Subject(
        kind="module" if is_module else "object",
        view=found.view,
        bound=Bound(
            release=_release(vermagic.partition(" ")[0]),
            vermagic=vermagic,
            modules=[one for one in depends.split(",") if one],
            parameters=sorted(
                value.partition(":")[0] for key, value in found.modinfo if key == "parmtype"
            ),
        ),
        image=image,
        needed=[Needed(one, weak) for one, weak in found.undefined.items() if one not in skipped],
        external={one.start for one in found.view.functions if one.external},
        percpu=found.sizes["percpu"],
        line=_lines(elf, found, name),
    )


def _release(text: str) -> str:
    """The text if it can be a kernel release; it becomes part of paths."""
    return text if re.fullmatch(r"\d[\w.+~-]{1,63}", text, re.ASCII) else ""


def _read(elf: Any, path: Path) -> _Subject:
    words = program.notes(elf)
    release, build_id = [*words.get(reader.NOTE_KERNEL, []), "", ""][:2]
    modules = sorted(words.get(reader.NOTE_MODULES, []))
    bound = Bound(_release(release), build_id, modules=modules, symbols=program.symbols_of(elf))
    if program.has_image(elf) and elf["e_type"] == "ET_REL":
        raise KbridgeError(
            "the image of a kmod, not linked yet",
            hint="inspect the program that it is linked into",
        )
    if reader.NOTE_PLACES in words and not program.has_image(elf):
        raise KbridgeError(
            "its section headers were taken away, and with them the place of its kernel image",
            hint="inspect it before that is done; strip leaves them",
        )
    if program.has_image(elf):
        return _linked(elf, bound, words.get(reader.NOTE_PLACES, []))
    if elf["e_type"] == "ET_REL":
        return _relocatable(elf, path.name)
    if not plain.is_kernel(elf):
        return _Subject(kind="other", view=plain.read(elf), bound=bound)
    view, (release, build_id) = plain.read_kernel(elf, path)
    return _Subject(kind="kernel", view=view, bound=Bound(release, build_id))


def _judge(subject: _Subject, path: Path, kernel: kernels.Kernel) -> Report:
    view, kind = subject.view, subject.kind
    is_kernel_code = kind != "other"
    thunks = ("__x86_indirect_", mitigations.RETURN_THUNK, "__stack_chk_fail")
    watched = (
        {one.start for one in view.functions if one.name.startswith(thunks)}
        if kind == "kernel"
        else set()
    )
    facts = code.scan(view, kernel=is_kernel_code, watched=watched)

    def locate(address: int) -> Site:
        function, offset = view.where(address)
        return Site(function, offset, subject.line(address))

    needed = symbols.find(subject.needed, kernel, view, facts)
    privileged = [
        Instruction(locate(one.at), one.text, one.mnemonic, one.why, one.alternative)
        for one in facts.privileged
    ]
    code_of_kernel = is_kernel_code and subject.view.regions
    return Report(
        file=str(path),
        kind=kind,
        kernel=kernel.release if is_kernel_code else "",
        bound=subject.bound,
        image=subject.image,
        symbols=needed,
        percpu=percpu.find(view, facts, needed),
        privileged=privileged,
        residue=residue.find(view, kind, subject.percpu) if code_of_kernel else [],
        mitigations=(
            mitigations.find(view, facts, kernel, subject.external, locate)
            if code_of_kernel
            else []
        ),
        notes=list(kernel.notes),
        interface=subject.interface,
    )


def inspect(path: Path, *, kernel: str | None = None, kdir: str | None = None) -> Report:
    """Find out about the file at `path`.

    Kernel names are looked up in the kernel `kernel` or `kdir`, else in the one that the file is
    bound to, else (objects) in the one that kbridge would build for.  Raises UsageError for a file
    that is not there or a kernel that is not installed, KbridgeError for what is damaged or no
    x86-64 ELF file.
    """
    with source.opened(path) as elf:
        try:
            subject = _read(elf, path)
        except KbridgeError as problem:
            raise KbridgeError(
                f"{path}: {problem.message}", hint=problem.hint or "build or copy it again"
            ) from problem
        except Exception as problem:  # pyelftools raises whatever damaged bytes lead it to
            raise source.damaged(path, problem or type(problem).__name__) from problem
        bound = subject.bound
        known = kernels.Kernel()
        if kernel or kdir or subject.kind not in ("other", "kernel") or bound.release:
            known = kernels.facts(kernel, kdir, bound.release, bound.build_id)
        try:
            return _judge(subject, path, known)
        except KbridgeError:
            raise
        except Exception as problem:
            raise source.damaged(path, problem or type(problem).__name__) from problem
