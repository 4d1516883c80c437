# SPDX-License-Identifier: GPL-2.0-only
"""Asks QEMU's monitor about a guest that `kbridge run --gdb PORT` has started.

gdb's protocol carries the monitor's commands (qRcmd); the guest stands still as long as the
connection is open.  What the monitor says is a source of its own: nothing in the guest had a
part in it.
"""

from __future__ import annotations

import re
import socket
from types import TracebackType

SECONDS = 30.0


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Monitor:
    """`with Monitor(port) as monitor`: the guest stands still inside, and goes on after."""

    def __init__(self, port: int) -> None:
        self._address = ("127.0.0.1", port)
        self._heard = b""

    def __enter__(self) -> Monitor:
        self._wire = socket.create_connection(self._address, timeout=SECONDS)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._wire:
            self._send(b"D")
            while self._packet() != b"OK":
                pass

    def _send(self, packet: bytes) -> None:
        self._wire.sendall(b"$%s#%02x" % (packet, sum(packet) % 256))

    def _packet(self) -> bytes:
        """The next one, acknowledged."""
        while not (found := re.search(rb"\$([^#]*)#..", self._heard, re.DOTALL)):
            more = self._wire.recv(1 << 16)
            assert more, "QEMU hung up"
            self._heard += more
        self._heard = self._heard[found.end() :]
        self._wire.sendall(b"+")
        return found[1]

    def ask(self, command: str) -> str:
        """What the monitor answers."""
        self._send(b"qRcmd," + command.encode().hex().encode())
        said = b""
        while (packet := self._packet()) != b"OK":
            if packet[:1] == b"O":  # others tell that the guest has stopped
                said += bytes.fromhex(packet[1:].decode())
        return said.decode(errors="replace")

    def registers(self) -> list[dict[str, int]]:
        """Of each CPU: CPL, CR0 ..., EFER, and IDT, GDT (their addresses), FS, GS (bases)."""
        found = []
        for text in self.ask("info registers -a").split("CPU#")[1:]:
            plain = re.findall(r"\b(CPL|CR\d|EFER)\s*=([0-9a-f]+)", text)
            tables = re.findall(r"\b([IG]DT)=\s*([0-9a-f]+) ", text)
            bases = re.findall(r"\b([FG]S) =[0-9a-f]+ ([0-9a-f]+) ", text)
            found.append({name: int(value, 16) for name, value in plain + tables + bases})
        return found

    def words(self, address: int, count: int) -> list[int]:
        """Words of 8 bytes at a virtual address."""
        text = self.ask(f"x /{count}gx {address:#x}")
        found = [int(word, 16) for word in re.findall(r"\b0x([0-9a-f]{16})\b", text)]
        assert len(found) == count, text
        return found

    def pages(self, cpu: int) -> dict[int, tuple[int, str]]:
        """What the page tables of a CPU map: address to physical address and the entry's bits.

        Bits are as QEMU prints them, "XGPDACTUW" or dashes: X no execution, P a large page.
        """
        self.ask(f"cpu {cpu}")
        rows = re.findall(
            r"^([0-9a-f]{16}): ([0-9a-f]{16}) ([A-Z-]{9})", self.ask("info tlb"), re.MULTILINE
        )
        return {int(row[0], 16): (int(row[1], 16), row[2]) for row in rows}
