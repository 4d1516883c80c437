# SPDX-License-Identifier: GPL-2.0-only
"""`kbridge kernels`: which kernels are here, what they lack, and which package brings it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from kbridge.errors import KbridgeError
from kbridge.kernels import survey as surveys
from kbridge.kernels.survey import Found, Survey

COLUMNS = 100
_TITLES = ("release (R)", "headers", "image", "built with", "symbols", "default")


@dataclass(frozen=True)
class Missing:
    """A package, and the releases that it is for.

    `by_itself`: kbridge fetches it when it needs it; nothing is to be done.
    """

    package: str
    why: str
    releases: list[str]
    by_itself: bool = False


def _missing_of(kernel: Found) -> Iterator[Missing]:
    if kernel.headers is None:
        yield Missing(kernel.headers_package, "to link against", [kernel.release])
    if kernel.compiler_installed is False:
        yield Missing(kernel.compiler_package, "the compiler that built", [kernel.release])
    if kernel.image is None:
        yield Missing(kernel.image_package, "the image of", [kernel.release], by_itself=True)


def missing(survey: Survey) -> list[Missing]:
    """What to install, each package once."""
    found: dict[str, Missing] = {}
    for kernel in survey.kernels:
        for one in _missing_of(kernel):
            known = found.get(one.package)
            releases = [*known.releases, *one.releases] if known else one.releases
            found[one.package] = replace(one, releases=releases)
    return list(found.values())


# -- for people --


def _cut(line: str) -> str:
    return line if len(line) <= COLUMNS else line[: COLUMNS - 3] + "..."


def _row(kernel: Found) -> tuple[str, ...]:
    compiler = str(kernel.compiler or "?")
    if kernel.compiler and kernel.compiler_installed is False:
        compiler = f"{kernel.compiler.family} {kernel.compiler.major}, missing"
    remarks = [kernel.default] if kernel.default else []
    if kernel.running and kernel.default != "running":
        remarks.append("runs now")
    headers = str(kernel.headers).replace(kernel.release, "R") if kernel.headers else "missing"
    return (
        kernel.release,
        headers,
        kernel.image_place or "missing",
        compiler,
        "cached" if kernel.symbols_cached else "not yet",
        ", ".join(remarks),
    )


def _table(kernels: list[Found]) -> list[str]:
    rows = [_TITLES, *map(_row, kernels)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append(_cut("  ".join(cells).rstrip()))
    return lines


def _to_install(needed: list[Missing]) -> list[str]:
    lines = [
        f"  apt-get install {one.package}: {one.why} {', '.join(one.releases)}" for one in needed
    ]
    return ["", "missing:", *lines] if lines else []


def text(survey: Survey) -> str:
    """The table, at most COLUMNS wide, then what to install: whole, to be typed or copied."""
    lines = _table(survey.kernels) if survey.kernels else ["no kernel here"]
    if not any(kernel.running for kernel in survey.kernels):
        lines.append(_cut(f"running now: {survey.running}, of which nothing is installed here"))
    if survey.problem and survey.kernels:
        lines.append(_cut(f"no default: {survey.problem}"))
    lines += _to_install([one for one in missing(survey) if not one.by_itself])
    fetched = [one.package for one in missing(survey) if one.by_itself]
    if fetched:
        lines += ["", "fetched by kbridge when it needs them:", *(f"  {one}" for one in fetched)]
    return "\n".join(lines) + "\n"


# -- for programs --


def _kernel_as_dict(kernel: Found) -> dict[str, Any]:
    return {
        "release": kernel.release,
        "linkable": kernel.linkable,
        "default": kernel.default,
        "running": kernel.running,
        "headers": str(kernel.headers) if kernel.headers else None,
        "headers_package": kernel.headers_package,
        "image": str(kernel.image) if kernel.image else None,
        "image_place": kernel.image_place,
        "image_package": kernel.image_package,
        "compiler": str(kernel.compiler) if kernel.compiler else None,
        "compiler_package": kernel.compiler_package,
        "compiler_installed": kernel.compiler_installed,
        "symbols_cached": kernel.symbols_cached,
    }


def as_dict(survey: Survey) -> dict[str, Any]:
    """What --json prints."""
    return {
        "running": survey.running,
        "kernels": [_kernel_as_dict(kernel) for kernel in survey.kernels],
        "missing": [asdict(one) for one in missing(survey)],
    }


def problem(survey: Survey) -> KbridgeError | None:
    """Why nothing can be built by default, with the one line that helps; None where it can."""
    if not any(kernel.linkable for kernel in survey.kernels):
        # of the kernel that runs, else of the newest, what it lacks; else any kernel's headers
        best = sorted(survey.kernels, key=lambda kernel: (kernel.running, bool(kernel.headers)))
        lacks = [one for one in (_missing_of(best[-1]) if best else ()) if not one.by_itself]
        packages = [one.package for one in lacks] or ["linux-headers-cloud-amd64"]
        return KbridgeError(
            "no kernel here can be linked against",
            hint=f"install what is missing: apt-get install {' '.join(packages)}",
        )
    return None


def kernels(*, as_json: bool = False) -> tuple[str, KbridgeError | None]:
    """What the command prints, and the error that it ends with, if any."""
    survey = surveys.survey()
    shown = json.dumps(as_dict(survey), indent=2) + "\n" if as_json else text(survey)
    return shown, problem(survey)
