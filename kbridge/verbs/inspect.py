# SPDX-License-Identifier: GPL-2.0-only
"""`kbridge inspect`: what a file needs of the kernel and does to it, for people or as JSON."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from kbridge import inspect as inspector
from kbridge.inspect.report import (
    NOT_APPLICABLE,
    Image,
    Instruction,
    Interface,
    KernelSymbol,
    Mitigation,
    PerCpu,
    Report,
    Residue,
    Site,
)
from kbridge.stack import Need, unknown

COLUMNS = 100
_SITES_SHOWN = 4
_INSTRUCTIONS_SHOWN = 40
_USERS_SHOWN = 20
_LEAST = 24  # columns for the last column of a table
_KINDS = {
    "program": "program with a kmod",
    "library": "library with a kmod",
    "object": "object, taken for a part of a kmod",
    "module": "kernel module",
    "kernel": "kernel image",
    "other": "no kernel code in it",
}


@dataclass(frozen=True)
class InspectRequest:
    """`kernel`, `kdir`: the kernel to look names up in, None for the one that it is bound to."""

    file: Path
    kernel: str | None = None
    kdir: str | None = None
    json: bool = False


# -- lines of at most COLUMNS --


def _cut(line: str) -> str:
    return line if len(line) <= COLUMNS else line[: COLUMNS - 3] + "..."


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Aligned columns; the last one goes on below itself where it does not fit."""
    if not rows:
        return []
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        start = "  " + "".join(f"{cell}  " for cell in cells)
        room = max(COLUMNS - len(start), _LEAST)
        words = textwrap.wrap(row[-1], room, break_on_hyphens=False) or [""]
        lines += [_cut((start + words[0]).rstrip())]
        lines += [_cut(" " * len(start) + more) for more in words[1:]]
    return lines


def _wrapped(words: Iterable[str], indent: str) -> list[str]:
    """Words separated by commas, on as many lines as they need."""
    lines, line = [], indent
    for word in words:
        if line != indent and len(line) + len(word) + 2 > COLUMNS:
            lines.append(line.rstrip())
            line = indent
        line += f"{word}, "
    lines.append(line.rstrip().removesuffix(","))
    return [_cut(one) for one in lines]


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _place(site: Site) -> str:
    where = f"{site.function}+{site.offset:#x}"
    return f"{where} ({site.line})" if site.line else where


# -- sections of the text --


def _head(report: Report) -> list[str]:
    bound, image = report.bound, report.image
    rows = [["kind", _KINDS[report.kind]]]
    if image and image.name:
        rows.append(["image", image.name])
    if bound.release:
        rows.append(["kernel", bound.release])
    if bound.build_id:
        rows.append(["build ID", bound.build_id])
    if bound.symbols:
        rows.append(["symbols of", bound.symbols])
    if bound.vermagic:
        rows.append(["vermagic", bound.vermagic])
    if bound.link:
        how = {"libkernel": "libkernel.so, at run time", "script": "addresses of the image"}
        rows.append(["bound by", how[bound.link]])
    if report.kernel and report.kernel != bound.release:
        rows.append(["looked up in", f"kernel {report.kernel}"])
    if bound.modules:
        rows.append(["modules", ", ".join(bound.modules)])
    if bound.parameters:
        rows.append(["parameters", ", ".join(bound.parameters)])
    if image:
        rows += _sizes(image)
    return [report.file, *_table(rows)]


def _sizes(image: Image) -> Iterator[list[str]]:
    sizes = f"text {image.text}, rodata {image.rodata}, data {image.data}"
    if image.percpu:
        sizes += f", per-CPU {image.percpu}"
    yield ["bytes", sizes]
    counted = _count(image.functions, "function")
    yield ["code", f"{image.code} bytes, {counted}, {_count(image.records, 'relocation')}"]
    yes = {True: "yes", False: "no"}
    calls = f"module_init() {yes[image.module_init]}, module_exit() {yes[image.module_exit]}"
    yield ["calls", calls]


def _stack(need: Need | None) -> str:
    """What a gate takes of the kernel stack."""
    if need is None:
        return ""
    missing = ", ".join(unknown(need))
    return f"{_count(need.bytes, 'byte')} of stack" + (f"; not known: {missing}" if missing else "")


def _gates(report: Report) -> list[str]:
    gates = report.image.gates if report.image else []
    if not gates:
        return []
    rows = [
        [
            one.name,
            f"none: {one.problem}" if one.problem else _count(one.stack_words, "stack word"),
            _stack(one.stack),
        ]
        for one in gates
    ]
    return [f"Gates: {sum(not one.problem for one in gates)}", *_table(rows)]


def _export(symbol: KernelSymbol) -> str:
    if symbol.exported is None:
        return "?"
    if not symbol.exported:
        return "not exported"
    return "exported, GPL-only" if symbol.gpl_only else "exported"


def _remark(symbol: KernelSymbol) -> str:
    words = []
    if symbol.status == "ambiguous":
        words.append(f"ambiguous: {len(symbol.candidates)} definitions")
    elif symbol.status == "missing":
        near = f", near: {' '.join(symbol.candidates)}" if symbol.candidates else ""
        words.append(f"unknown to that kernel{near}")
    elif symbol.status == "absent":
        words.append("not there, reads as 0")
    elif symbol.status == "unknown":
        words.append("not looked up")
    if symbol.weak and symbol.status != "absent":
        words.append("weak")
    if symbol.namespace:
        words.append(f"name space {symbol.namespace}")
    return ", ".join(words)


def _symbols(report: Report) -> list[str]:
    symbols = report.symbols
    if not symbols:
        return []
    counts = [
        _count(sum(one.type == "function" for one in symbols), "function"),
        f"{sum(one.type in ('data', 'per-CPU') for one in symbols)} data",
        f"{sum(one.exported is False for one in symbols)} not exported",
        f"{sum(one.gpl_only for one in symbols)} GPL-only",
    ]
    rows = [
        [one.name, one.type, one.provider or "?", _export(one), _remark(one)] for one in symbols
    ]
    return [f"Kernel symbols: {len(symbols)} ({', '.join(counts)})", *_table(rows)]


def _interface(used: Interface | None) -> list[str]:
    """What kbridge run --other-build compares; --json has the names."""
    if used is None:
        return []
    rows = [["CRCs", str(len(used.crcs))]]
    if used.without_crc:
        rows.append(["without CRC", ", ".join(used.without_crc)])
    types = [f"{len(names)} {kind}" for kind, names in used.types.items() if names]
    rows.append(["types", ", ".join(types) or "none"])
    rows.append(["configuration", used.configuration or "not recorded"])
    if used.features is not None:
        rows.append(["CPU features", _count(used.features, "number")])
    return ["Recorded interface", *_table(rows)]


def _percpu(variables: Sequence[PerCpu]) -> list[str]:
    lines = []
    for one in variables:
        more = len(one.functions) - _USERS_SHOWN
        users = ", ".join(one.functions[:_USERS_SHOWN]) or "no function"
        users += f" and {more} more" if more > 0 else ""
        lines += [[one.name, "own" if one.own else "kernel's", f"in {users}"]]
    return [f"Per-CPU variables: {len(variables)}", *_table(lines)] if lines else []


def _key(one: Instruction) -> tuple[str, bool, str, int]:
    return one.mnemonic, one.alternative, one.site.function, one.site.offset


def _privileged(report: Report) -> list[str]:
    found = sorted(report.privileged, key=_key)
    if not found:
        return ["Privileged instructions: none"] if report.kind != "other" else []
    lines = [f"Privileged instructions: {len(found)}"]
    for (mnemonic, alternative), group in groupby(found, key=lambda one: _key(one)[:2]):
        ones = list(group)
        when = "; as an alternative, where the processor is such" if alternative else ""
        lines.append(_cut(f"  {mnemonic}: {ones[0].why}{when}"))
        places = [_place(one.site) for one in ones[:_INSTRUCTIONS_SHOWN]]
        if len(ones) > len(places):
            places.append(f"and {len(ones) - len(places)} more (--json has all)")
        lines += _wrapped(places, "    ")
    return lines


def _residue(rows: Sequence[Residue]) -> list[str]:
    if not rows:
        return []
    shown = [
        [
            one.section,
            "?" if one.entries is None else str(one.entries),
            str(one.bytes),
            one.fate,
            f"{one.what}; {one.why}" if one.why else one.what,
        ]
        for one in rows
    ]
    lines = _table([["section", "entries", "bytes", "fate", "what it is"], *shown])
    return [f"Special sections: {len(rows)}", *lines]


def _mitigations(found: Sequence[Mitigation]) -> list[str]:
    if not found:
        return []
    kernel = {True: "yes", False: "no", None: "?"}
    rows = [["mitigation", "state", "kernel", "sites"]]
    for one in found:
        sites = one.detail
        if one.state != NOT_APPLICABLE and one.total:
            sites = f"{one.sites} of {one.total}: {one.detail}"
            more = len(one.naked) - _SITES_SHOWN
            lacking = [_place(site) for site in one.naked[:_SITES_SHOWN]]
            if lacking:
                sites += f"; not {', '.join(lacking)}" + (f" and {more} more" if more > 0 else "")
        rows.append([one.name, one.state, kernel[one.kernel], sites])
    lines = _table(rows)
    return ["Mitigations", *lines]


def text(report: Report) -> str:
    """The report for people: headings, aligned columns, at most COLUMNS wide."""
    parts = [
        _head(report),
        _gates(report),
        _symbols(report),
        _interface(report.interface),
        _percpu(report.percpu),
        _privileged(report),
        _residue(report.residue),
        _mitigations(report.mitigations),
        [_cut(f"note: {note}") for note in report.notes],
    ]
    whole = "\n\n".join("\n".join(part) for part in parts if part) + "\n"
    # names of a damaged file may hold anything, and a terminal obeys some of it
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in whole)


def inspect(request: InspectRequest) -> str:
    """What the command prints.  Raises what kbridge.inspect.inspect() raises."""
    report = inspector.inspect(request.file, kernel=request.kernel, kdir=request.kdir)
    if request.json:
        return json.dumps(report.as_dict(), indent=2) + "\n"
    return text(report)
