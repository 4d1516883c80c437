# SPDX-License-Identifier: GPL-2.0-only
"""`kbridge gen-libkernel`: a kernel's symbols as libkernel.so and its link stub."""

from __future__ import annotations

from pathlib import Path

from kbridge import libkernel, log, paths
from kbridge.errors import KbridgeError
from kbridge.symbols.table import SymbolTable


def generate(table: SymbolTable, output: Path) -> None:
    """Write the run-time file `output`, with the addresses of `table`, and the link stub
    `output`.stub.
    """
    paths.check_output(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    stub = output.with_name(output.name + ".stub")
    libkernel.write_runtime(table, output)
    names = {one.name: one.is_function for one in table.resolvable()}
    try:
        libkernel.write_stub(names, stub, release=table.release, build_id=table.build_id)
    except KbridgeError:
        output.unlink(missing_ok=True)
        raise
    log.info(f"wrote {output} and {stub}: {len(names)} symbols of {table.origin}")
