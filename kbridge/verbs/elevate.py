# SPDX-License-Identifier: GPL-2.0-only
"""`kbridge elevate`: an unmodified program in ring 0, on this machine; `kbridge adaptors`."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from kbridge import elevation
from kbridge.verbs import exits
from kbridge.vm import native, program


@dataclass
class ElevateRequest:
    """`without`: adaptors to leave out.  `count`: say at the end where timer interrupts hit."""

    program: str
    args: Sequence[str] = ()
    inherit: bool = False
    without: Sequence[str] = field(default_factory=list)
    count: bool = False


def _run_and_count(path: Path, argv: Sequence[str], plan: elevation.Plan) -> int:
    status = native.run(path, argv, os.environ, None, plan, count=True)
    if status is not None and status < 0:
        return exits.ended_by(path, -status, "", "dmesg shows what the kernel says")
    return status or 0


def elevate(request: ElevateRequest) -> int:
    """Become the program, in ring 0; or, with `count`, run it and return its exit status.

    Raises KbridgeError with `status` 125 (kbridge's own failure), 126, 127, or 128+n.
    """
    plan = elevation.plan(request.inherit, request.without)
    path = program.locate(request.program)
    argv = [request.program, *request.args]
    sys.stdout.flush()
    if not request.count:
        elevation.elevate_with_exec(elevation.open_device(), plan)
    try:
        if request.count:
            return _run_and_count(path, argv, plan)
        os.execv(path, argv)
    except OSError as problem:
        raise exits.not_started(path, problem.errno or errno.ENOEXEC) from problem


def adaptors(as_json: bool) -> str:
    """What the kernel needs for user code in ring 0."""
    if as_json:
        return json.dumps([asdict(one) for one in elevation.ADAPTORS], indent=2)
    return elevation.table()
