# SPDX-License-Identifier: GPL-2.0-only
"""kbridge doctor: shows what was tried on this machine, and what mends what does not work."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from kbridge import __version__, health, log, proc, progress
from kbridge.errors import EXIT_FAILED, KbridgeError

_WORDS = {health.OK: "ok", health.FAILED: "FAILED", health.EXTRA: "not", health.UNTRIED: "untried"}
_COLOURS = {health.OK: "32", health.FAILED: "1;31", health.EXTRA: "33", health.UNTRIED: "2"}
_STATE, _NAME = (max(map(len, words)) + 2 for words in (
    _WORDS.values(), [check.name for check in health.CHECKS]
))  # fmt: skip


@dataclass(frozen=True)
class DoctorRequest:
    kernel: str | None = None
    kdir: str | None = None
    json: bool = False


def _state(state: str) -> str:
    word = f"{_WORDS[state]:<{_STATE}}"
    plain = not sys.stdout.isatty() or os.environ.get("NO_COLOR")
    return word if plain else f"\x1b[{_COLOURS[state]}m{word}\x1b[0m"


def _lines(finding: health.Finding) -> str:
    lines = [f"{_state(finding.state)}{finding.name:<{_NAME}}{finding.says}"]
    if finding.mend:
        lines.append(f"{'':<{_STATE + _NAME}}mend: {finding.mend}")
    return "\n".join(lines)


def _say(findings: Iterable[health.Finding]) -> list[health.Finding]:
    """Each as it is found; with --quiet those only that are wrong."""
    seen = []
    for finding in findings:
        seen.append(finding)
        if log.verbosity() >= 0 or finding.state == health.FAILED:
            with log.aside(), proc.standard_output():
                print(_lines(finding), flush=True)
    return seen


def _cause(findings: Iterable[health.Finding]) -> KbridgeError:
    """Of the exit status, as that of every failure on stderr."""
    failed = [one.name for one in findings if one.state == health.FAILED]
    return KbridgeError(f"what kbridge needs does not work here: {', '.join(failed)}")


def doctor(request: DoctorRequest) -> int:
    """The exit status: 1 where something that is needed does not work."""
    with progress.doing("trying what kbridge needs of this machine"):
        findings = health.examine(request.kernel, request.kdir)
        seen = list(findings) if request.json else _say(findings)
    well = all(one.state != health.FAILED for one in seen)
    if request.json:
        checks = [asdict(one) for one in seen]
        with proc.standard_output():
            print(json.dumps({"kbridge": __version__, "ok": well, "checks": checks}, indent=1))
    elif well and log.verbosity() >= 0:
        with proc.standard_output():
            print("all that kbridge needs works here; what is marked 'not' it does without")
    if not well:
        log.error(_cause(seen))
    return 0 if well else EXIT_FAILED
