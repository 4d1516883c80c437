# SPDX-License-Identifier: GPL-2.0-only
"""QEMU's monitor (QMP, docs/interop/qmp-spec in QEMU): JSON, a line each way.

qemu.qmp, QEMU's own library, needs an event loop: importing that alone takes a quarter of the
time of a whole run from a saved state.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Sequence
from typing import Any

_SECONDS = 30.0  # for an answer: all that is asked for takes milliseconds
_PAUSE = 0.003

# Memory that lies in a shared file is not part of the machine's state: it is that file (QEMU,
# migration/ram.c, ramblock_is_ignored()).
_MEMORY_APART = [{"capability": "x-ignore-shared", "state": True}]


class MonitorError(Exception):
    """QEMU refuses a command, or has gone."""


class Monitor:
    """`wire`: this end of the monitor's socket, which stays the caller's to close."""

    def __init__(self, wire: socket.socket) -> None:
        self._wire = wire
        wire.settimeout(_SECONDS)
        self._lines = wire.makefile("r", encoding="utf-8", newline="\n")
        self._read()  # QEMU's greeting
        self.execute("qmp_capabilities")

    def _read(self) -> dict[str, Any]:
        try:
            line = self._lines.readline()
            if not line:
                raise MonitorError("QEMU has ended")
            answer = json.loads(line)
        except (OSError, ValueError) as problem:
            raise MonitorError(f"no answer of QEMU's: {problem}") from problem
        return answer if isinstance(answer, dict) else {}

    def execute(self, command: str, descriptors: Sequence[int] = (), **arguments: object) -> Any:
        """What QEMU returns.  Raises MonitorError."""
        words: dict[str, object] = {"execute": command}
        if arguments:
            words["arguments"] = arguments
        try:
            socket.send_fds(self._wire, [json.dumps(words).encode() + b"\n"], list(descriptors))
        except OSError as problem:
            raise MonitorError(f"QEMU has ended: {problem.strerror}") from problem
        while True:  # events come in between
            answer = self._read()
            if "error" in answer:
                raise MonitorError(f"{command}: {answer['error'].get('desc', answer['error'])}")
            if "return" in answer:
                return answer["return"]

    def _moved(self, query: str) -> None:
        end = time.monotonic() + _SECONDS
        while time.monotonic() < end:
            status = self.execute(query).get("status")
            if status == "completed":
                return
            if status in ("failed", "cancelled"):
                raise MonitorError("QEMU cannot save or load the machine's state")
            time.sleep(_PAUSE)
        raise MonitorError(f"not done after {_SECONDS:.0f} s")

    def save(self, descriptor: int) -> None:
        """Stop the machine and write its state but for its memory."""
        self.execute("migrate-set-capabilities", capabilities=_MEMORY_APART)
        self.execute("getfd", [descriptor], fdname="state")
        self.execute("migrate", uri="fd:state")
        self._moved("query-migrate")

    def load(self, descriptor: int) -> None:
        """Load a state into a machine that waits for one; the number is one of QEMU's own."""
        self.execute("migrate-set-capabilities", capabilities=_MEMORY_APART)
        self.execute("migrate-incoming", uri=f"fd:{descriptor}")

    def go_on(self) -> None:
        self.execute("cont")
