# SPDX-License-Identifier: GPL-2.0-only
"""samples/notebooks, executed in a guest: what their cells show, against second sources.

The notebooks are copied, and cells of the test's own put behind: they print numbers, or wait in
user mode until the test has asked QEMU's monitor.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import Record
from guest_shell import console_log_environment
from kernel_log import complaints
from monitor import Monitor, free_port

from kbridge.vm import hostroot

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "samples/notebooks"
SCRIPT = ROOT / "scripts/notebooks.py"
FLAGS = 0x1FFF  # of CR3: below the page table, and which of its two twins

# In user mode until a line comes; nbconvert, whose child this is, has the script's streams.
WAIT = """
import os, threading

streams = f"/proc/{os.getppid()}/fd/"
go = threading.Thread(target=lambda: open(streams + "0").readline(), daemon=True)
go.start()
with open(streams + "2", "w") as said:
    said.write(f"== look WHAT {NUMBERS}\\n")
while go.is_alive():
    pass
"""
PRINT = {
    "idt": """
import json
tables = {"before": before, "after": after, "ours": ours}
print(json.dumps({name: table.to_dict("list") for name, table in tables.items()}))
print(json.dumps({"before": register.address, "after": address}))
print(json.dumps(faults.reset_index().to_dict("list")))
""",
    "pagewalk": """
import json
print(json.dumps([root.cr3, physical]))
""",
    "symbols": """
import json
print(facts.to_json(orient="records"))
print(json.dumps({row.Index: [int(row.start), int(row.end)] for row in sections.itertuples()}))
""",
}

# Those at which the test looks, and the numbers for it: CR3 first.
LOOKS = {"cr3": "[cr3]", "idt": "[]", "pagewalk": "[root.cr3, address, physical]"}


@dataclass(frozen=True)
class Executed:
    """The notebooks of one boot; `looks`: what the monitor said at each."""

    folder: Path
    log: Path
    looks: dict[str, Any]

    def text(self, name: str) -> str:
        """All that the cells printed."""
        cells = json.loads((self.folder / f"{name}.ipynb").read_text())["cells"]
        shown = (output for cell in cells for output in cell.get("outputs", []))
        return "".join("".join(output.get("text", "")) for output in shown)

    def values(self, name: str) -> list[Any]:
        """What the test's own cell printed."""
        lines = self.text(name).splitlines()
        return [json.loads(line) for line in lines if line.startswith(("{", "["))]

    def numbers(self, name: str, label: str) -> list[int]:
        return [int(word, 16) for word in re.findall(rf"{label}(0x[0-9a-f]+)", self.text(name))]


def copy(name: str, folder: Path) -> Path:
    """With the test's own cells behind."""
    notebook = json.loads((SOURCES / f"{name}.ipynb").read_text())
    parts = [PRINT[name]] if name in PRINT else []
    if name in LOOKS:
        parts.append(WAIT.replace("WHAT", name).replace("NUMBERS", LOOKS[name]))
    for number, part in enumerate(parts):
        cell: dict[str, Any] = {"cell_type": "code", "id": f"test-{number}", "source": part}
        cell |= {"execution_count": None, "metadata": {}, "outputs": []}
        notebook["cells"].append(cell)
    made = folder / f"{name}.ipynb"
    made.write_text(json.dumps(notebook))
    return made


def user_cpu(cpus: Sequence[Mapping[str, int]], root: int) -> int | None:
    """The CPU that is in user mode with that page table."""
    for number, cpu in enumerate(cpus):
        if cpu["CPL"] == 3 and cpu["CR3"] & ~FLAGS == root & ~FLAGS:
            return number
    return None


def look(name: str, numbers: Sequence[int], port: int) -> Any:
    """Registers of all CPUs, and what is to be compared with a notebook beside them.

    None while no CPU has the notebook's page table in user mode: interrupts come.
    """
    with Monitor(port) as monitor:
        told: dict[str, Any] = {"registers": monitor.registers()}
        if name == "idt":
            told["idt"] = monitor.words(told["registers"][0]["IDT"], 512)
            return told
        cpu = user_cpu(told["registers"], numbers[0])
        if cpu is None:
            return None
        if name == "pagewalk":
            _, address, physical = numbers
            monitor.ask(f"cpu {cpu}")
            told["physical"] = monitor.ask(f"gva2gpa {address:#x}")
            told["memory"] = monitor.ask(f"xp /8xb {physical:#x}")
    return told


def looked(name: str, numbers: Sequence[int], port: int) -> Any:
    for _ in range(400):
        told = look(name, numbers, port)
        if told:
            return told
        time.sleep(0.05)
    pytest.fail(f"no CPU is in user mode with the page table of {name}")


def execute(names: Sequence[str], tmp_path: Path) -> Executed:
    folder, output, port = tmp_path / "with a space", tmp_path / "executed", free_port()
    folder.mkdir()
    shutil.copy(SOURCES / "support.py", folder)
    notebooks = [copy(name, folder) for name in names]
    executed = Executed(output, tmp_path / "console", {})
    words = ["--output", output, "--run=--gdb", f"--run={port}", *notebooks]
    command = [sys.executable, str(SCRIPT), *map(str, words)]
    lines = []
    with subprocess.Popen(
        command,
        env=console_log_environment(executed.log),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as script:
        assert script.stdin
        assert script.stderr
        try:
            for line in script.stderr:
                lines.append(line)
                found = re.fullmatch(r"== look (\w+) \[(.*)\]\n", line)
                if found:
                    numbers = [int(word) for word in found[2].split(", ") if word]
                    executed.looks[found[1]] = looked(found[1], numbers, port)
                    script.stdin.write("\n")
                    script.stdin.flush()
        except BaseException:
            os.killpg(script.pid, signal.SIGTERM)
            raise
    assert script.returncode == 0, "".join(lines)
    assert set(executed.looks) == set(names) & set(LOOKS)
    return executed


def check_cr3(executed: Executed) -> None:
    text = executed.text("cr3")
    assert "ring 3, in the block 0, after it 3\n" in text
    assert "SIGSEGV\nFatal Python error: Segmentation fault\n" in text
    assert "caller in ring 3, function in ring 0\n" in text
    elevated, by_kmod = executed.numbers("cr3", "CR3 = ")
    assert elevated & ~FLAGS == by_kmod & ~FLAGS
    assert user_cpu(executed.looks["cr3"]["registers"], elevated) is not None


def check_idt(executed: Executed) -> None:
    text = executed.text("idt")
    assert "253 of 256 entries differ; the same: [8, 18, 29]\n" in text
    assert "entries that differ: [14]\n" in text
    tables, places, faults = executed.values("idt")
    told = executed.looks["idt"]
    assert places["before"] == told["registers"][0]["IDT"] != places["after"]
    assert tables["before"]["handler"] == handlers(told["idt"])
    assert tables["before"]["name"][14] == "asm_exc_page_fault"
    assert tables["after"]["name"][14].startswith("kelevate_vectors")
    assert tables["ours"]["name"][14].endswith("[kb:libidt]")
    # an exception's stack and an interrupt's, but for NMI, which has one, and those not changed
    stacks = [6] * 32 + [7] * 224
    for vector in (2, 8, 18, 29):
        stacks[vector] = tables["before"]["ist"][vector]
    assert tables["after"]["ist"] == stacks
    for pages, ours, kernels in zip(*faults.values(), strict=True):
        # the processor's own count is of the whole CPU, the kernel's of this process
        assert pages <= kernels <= ours <= pages + 200


def handlers(words: Sequence[int]) -> list[int]:
    """Intel's manual, volume 3, figure "64-Bit IDT Gate Descriptors"."""
    pairs = zip(words[::2], words[1::2], strict=True)
    return [(high & 0xFFFFFFFF) << 32 | low >> 48 << 16 | low & 0xFFFF for low, high in pairs]


def check_ksys_write(executed: Executed) -> None:
    text = executed.text("ksys_write")
    assert "7 bytes by ksys_write()\nHello World!\n" in text
    assert "Hello World!\nand from ring 0\n" in text
    assert "-9: EBADF, Bad file descriptor\n" in text
    assert "-28: ENOSPC, No space left on device\n" in text


def check_pagewalk(executed: Executed) -> None:
    text = executed.text("pagewalk")
    (cr3, physical), *_ = executed.values("pagewalk")
    told = executed.looks["pagewalk"]
    assert user_cpu(told["registers"], cr3) is not None
    assert f"gpa: {physical:#x}\r\n" in told["physical"]
    memory = re.findall(r"\b0x([0-9a-f]{2})\b", told["memory"])
    assert bytes.fromhex("".join(memory)) == b"found it"
    found = re.search(r"by the page table (\S+), by /proc/self/pagemap (\S+)\n", text)
    assert found
    assert found[1] == found[2] == hex(physical)
    found = re.search(r"(\d+) pages of 4 KiB, /proc/self/pagemap differs in (\d+)", text)
    assert found
    assert int(found[1]) > 5000
    assert int(found[2]) < 20  # other threads of Jupyter's go on meanwhile


def check_symbols(executed: Executed) -> None:
    text = executed.text("symbols")
    kernels_own, libkernels = executed.numbers("symbols", "ksys_write: ")
    assert kernels_own == libkernels
    assert f"{kernels_own:#x}\n" in text.replace("ksys_write: ", "", 1)
    facts, sections = executed.values("symbols")
    function, exported, variable = facts
    assert function["declaration"] == (
        "ssize_t ksys_write(unsigned int fd, const char *buf, size_t count)"
    )
    assert (function["section"], function["exported"]) == (".text", False)
    assert exported["declaration"] == "void kfree(const void *object)"
    assert (variable["type"], variable["exported"]) == ("data", True)
    assert exported["exported"] is True
    assert function["slide"] == variable["slide"] == kernels_own - function["address"]
    assert function["slide"] % (2 << 20) == 0
    rows = re.findall(r"^([0-9a-f]+)-([0-9a-f]+) : Kernel (\w+)$", text, re.MULTILINE)
    told = {name: int(end, 16) + 1 - int(start, 16) for start, end, name in rows}
    size = {name: end - start for name, (start, end) in sections.items()}
    labels = {"code": "code", "rodata": "read-only data", "data": "data", "bss": "zeroed data"}
    assert told == {name: size[label] for name, label in labels.items()}


CHECKS = {
    "cr3": check_cr3,
    "idt": check_idt,
    "ksys_write": check_ksys_write,
    "pagewalk": check_pagewalk,
    "symbols": check_symbols,
}
PICTURES = {"idt", "faults", "cost", "pagewalk", "pages", "symbols"}


def check(executed: Executed, names: Sequence[str]) -> None:
    for name in names:
        CHECKS[name](executed)
        assert (executed.folder / f"{name}.html").stat().st_size > 100_000
    assert not complaints(executed.log)


def test_the_quickest_notebook(tmp_path: Path, record_property: Record) -> None:
    record_property("kernel", hostroot.newest())
    check(execute(["cr3"], tmp_path), ["cr3"])


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_all_notebooks(tmp_path: Path, record_property: Record) -> None:
    record_property("kernel", hostroot.newest())
    assert set(CHECKS) == {one.stem for one in SOURCES.glob("*.ipynb")}
    executed = execute(sorted(CHECKS), tmp_path)
    check(executed, sorted(CHECKS))
    pictures = {one.stem for one in executed.folder.glob("*.png")}
    assert pictures == PICTURES
    for name in pictures:
        assert (executed.folder / f"{name}.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
