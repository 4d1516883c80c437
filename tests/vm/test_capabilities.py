# SPDX-License-Identifier: GPL-2.0-only
"""The samples of the eleven capabilities, built as samples/README.md says.

Every kernel is booted twice: as it is (five levels of page tables where the processor has them, as
QEMU's has), and with page-table isolation and four levels.  All that a sample prints is compared
with a source that has nothing to do with it: QEMU's monitor, /proc, the kernel's BTF, its
configuration.
"""

from __future__ import annotations

import datetime
import functools
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from conftest import Kbridge
from guest_shell import LIBRARIES, build, console_log_environment
from kernel_log import complaints
from monitor import Monitor, free_port

from kbridge.kernels import image as images
from kbridge.kernels import target
from kbridge.symbols import parts

ROOT = Path(__file__).parents[2]
README = ROOT / "samples/README.md"
TRAPS = Path(__file__).parent / "programs/traps.c"
KERNELS = [kernel.release for kernel in target.installed()] or ["none installed"]
USER_END = 1 << 47
BITS = ("CR0", "CR4", "EFER")
# bits of CR4 for which /proc/cpuinfo has a flag when the kernel uses them
CR4_FLAGS = {"smep": 20, "smap": 21, "umip": 11, "la57": 12, "fsgsbase": 16, "ospke": 22}
TRAP_COUNT = 1000
AT_A_TIME = 2  # guests
FOUR_LEVELS = {"KBRIDGE_QEMU_CPU": "max,-cx16,-la57"}

# Each part prints "== NAME" first; after "== look NAME" the test looks from outside, and the shell
# waits for a line.  `until`: what is printed is complete.
LOOK = """
look() { echo "== look $1"; read -r go; }
status() { echo "status $?"; }
stays() {
    echo "== $1"; "./$1" $2 stay > out & pid=$!
    until grep -q "$3" out; do usleep 20000; done
    cat out; echo "== maps"; cat /proc/$pid/maps; look "$1"; kill $pid; wait $pid 2> /dev/null
}
echo "== kallsyms"; cat /proc/kallsyms
echo "== cpuinfo"; grep -m1 flags /proc/cpuinfo
stays registers "" PAT
stays pagewalk all pagemap
echo "== tables"; ./tables; status
"""

REST = """
for name in bracket instructions functions types_macros linking flow; do
    echo "== $name"; ./$name; status
done
echo "== bindings"; LD_DEBUG=bindings ./linking 2>&1 | grep LINUX_KERNEL
echo "== application"; ./application & pid=$!; wait $pid; status; echo "process $pid"
echo "== before"; cat /proc/[0-9]*/stat 2> /dev/null
echo "== tasks"; ./tasks & pid=$!; wait $pid; status; echo "process $pid"
echo "== after"; cat /proc/[0-9]*/stat 2> /dev/null
look files
"""

IDTOOL = """
idtool() { ./idtool "$@"; status; }
echo "== get"; idtool -g -C 0; idtool --get --cpu 1; taskset 2 ./idtool -g
echo "== print"; idtool -p
copy=$(./idtool -c -C 1)
overflow=$(grep ' asm_exc_overflow$' /proc/kallsyms | cut -c1-16)
echo "== modify"; echo "copy $copy"
idtool -a $copy -m ist:3 -v 3; idtool -a $copy -v 5 --modify addr:0x$overflow
idtool -a $copy -p -v 3; idtool -a $copy -p -v 5; idtool -a $copy -m ist_disable -v 2
idtool -a $copy -m addr:1000 -v 6; idtool -a $copy -m ist:7 -v 6
idtool -a fffffe0000000000 -m ist:1 -v 6
look copy
echo "== free"; idtool -a $copy -f; idtool -a $copy -f; idtool -a $copy -p
copy=$(./idtool -c)
echo "== install"; echo "copy $copy"
idtool -C 1 -a $copy -i -- ./idtool -g
idtool -C 1 -a $copy -i -- ./idtool -a $copy -f
idtool -C 1 -a $copy -i -- ./idtool -a $copy -m ist:0 -v 1
idtool -C 1 -a $copy -i -- ./idtool -C 1 -a $copy -i -- ./traps 1
idtool -C 1 -a $copy -n -v 3 -- ./idtool -a $copy -p -v 3
idtool -a $copy -p -v 3; idtool -g -C 1; idtool -i -a $copy < /dev/null; idtool -a $copy -f
echo "== count"; idtool -C 0 -n -v 3 -- ./traps 1000; idtool -C all -n -v 3 -- ./traps 1000
echo "== faults"; idtool -C 1 -n -v 14 -- ./traps 10
echo "== wrong"; idtool; idtool -g -p; idtool -v 256 -p; idtool -C 9 -g; idtool -m ist:1 -v 1
idtool -n; idtool -g what; idtool -x; idtool -a 123456789 -p; idtool -C 1 -n -v 3 -- ./none
idtool --help
for signal in INT TERM KILL SEGV; do
    echo "== $signal"; ./idtool -C 1 -n -v 14 -- ./idtool -C 1 -n -v 14 & wait $!; status
    ./idtool -C 1 -n -v 14 -- /bin/busybox sleep 3 & pid=$!
    until ! ./idtool -g -C 1 | grep -q fffffe0000000000; do :; done
    look $signal; kill -$signal $pid; wait $pid; status; ./idtool -g -C 1
done
echo "== end"; look end
"""

REFUSED = """
echo "== idtool"; for cpu in 0 1; do ./idtool -C $cpu -n -v 14 -- ./traps 1; echo "status $?"; done
copy=$(./idtool -c -C 1); ./idtool -a $copy -p -v 14; ./idtool -a $copy -f; ./idtool -g -C 1
look end
"""


@dataclass
class Picture:
    """What a boot showed: the shell's parts, and at each look the monitor's answers."""

    release: str
    log: Path
    said: dict[str, str] = field(default_factory=dict)
    registers: dict[str, list[dict[str, int]]] = field(default_factory=dict)
    pages: dict[int, tuple[int, str]] = field(default_factory=dict)
    words: dict[str, list[int]] = field(default_factory=dict)
    idt: list[int] = field(default_factory=list)
    gdt: dict[int, list[int]] = field(default_factory=dict)

    @functools.cached_property
    def kallsyms(self) -> dict[str, set[int]]:
        found: dict[str, set[int]] = {}
        for line in self.said["kallsyms"].splitlines():
            address, _, name = line.split("\t")[0].split(" ")
            found.setdefault(name, set()).add(int(address, 16))
        return found

    def status(self, name: str) -> int:
        return int(re.findall(r"^status (\d+)$", self.said[name], re.MULTILINE)[-1])


def readme_commands() -> dict[str, str]:
    """By sample, the words for scons in the table of samples/README.md."""
    found = re.findall(r"\| \[(\w+)\]\(\1\) \| `scons (app=\S+ kmod=\S+)` \|", README.read_text())
    return dict(found)


def build_samples(kbridge: Kbridge, folder: Path, release: str) -> list[Path]:
    """By the README's commands for the newest kernel, by the quicker `kbridge build` for others."""
    commands = readme_commands()
    assert len(commands) == 12, "a sample is missing in samples/README.md"
    for name, words in commands.items():
        app, kmods = (ROOT / word.partition("=")[2] for word in words.split())
        if release == KERNELS[-1]:
            how = [f"kernel={release}", f"out={folder}", "cflags=-Wall -Wextra -Werror"]
            command = [sys.executable, "-m", "SCons", "-Q", *words.split(), *how]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
            assert "warning" not in done.stdout + done.stderr
        else:
            sources = [ROOT / kmod for kmod in str(kmods.relative_to(ROOT)).split(",")]
            build(kbridge, app, sources, folder / name, release)
    subprocess.run(["gcc", "-O2", TRAPS, "-o", folder / "traps"], check=True)
    return [*(folder / name for name in commands), folder / "traps"]


def number(text: str, label: str) -> int:
    found = re.search(rf"^{label}\s+([0-9a-f]+)", text, re.MULTILINE)
    assert found, text
    return int(found[1], 16)


class Boot:
    """Runs a script in a guest and looks at it from outside where the script says so."""

    def __init__(self, picture: Picture, files: list[Path], script: str, append: str) -> None:
        self.picture = picture
        self.port = free_port()
        share = [w for file in (*LIBRARIES, *files) for w in ("--file", f"{file}:{file}")]
        # Linux has no huge pages below 512 MiB
        machine = ["--memory", "768", "--cpus", "2", "--append", append, "--gdb", str(self.port)]
        how = ["--kernel", picture.release, "--timeout", "150", *machine, *share]
        shell = ["/bin/busybox", "sh", "-c", f"cd {files[0].parent}; exec 2>&1\n{script}"]
        self.command = [sys.executable, "-m", "kbridge", "run", *how, *shell]

    def run(self, env: dict[str, str]) -> None:
        pipe = subprocess.PIPE
        env = console_log_environment(self.picture.log) | env
        lines: list[str] = []  # of the part that is being printed
        with subprocess.Popen(self.command, stdin=pipe, stdout=pipe, text=True, env=env) as guest:
            assert guest.stdin
            assert guest.stdout
            for line in guest.stdout:
                if not line.startswith("== "):
                    lines.append(line)
                    continue
                self._keep(lines)
                if line.startswith("== look "):
                    self._look(line.split()[-1])
                    guest.stdin.write("\n")
                    guest.stdin.flush()
                else:
                    lines = [line]
            self._keep(lines)
        said = {name: text for name, text in self.picture.said.items() if name != "kallsyms"}
        assert guest.returncode == 0, said

    def _keep(self, lines: list[str]) -> None:
        if lines:
            self.picture.said[lines[0][3:].strip()] = "".join(lines[1:])

    def _look(self, what: str) -> None:
        picture = self.picture
        root = None
        if what in ("registers", "pagewalk"):
            text = picture.said[what]
            cr3 = number(text, "CR3") if what == "registers" else None
            root = cr3 or int(re.findall(r"user mode at (\S+?)[ \n]", text)[0], 16)
        for _ in range(50):  # until the program that stays is in user mode, not in an interrupt
            with Monitor(self.port) as monitor:
                picture.registers[what] = monitor.registers()
                cpu = user_cpu(picture.registers[what], root)
                if root is None or cpu is not None:
                    self._read(monitor, what, cpu)
                    return
            time.sleep(0.05)
        pytest.fail(f"no CPU runs {what}")

    def _read(self, monitor: Monitor, what: str, cpu: int | None) -> None:
        picture = self.picture
        now = picture.registers[what]
        if what == "registers":
            picture.idt = monitor.words(now[0]["IDT"], 512)
            picture.gdt = {k: monitor.words(now[k]["GDT"], 16) for k in range(len(now))}
        elif what == "pagewalk" and cpu is not None:
            pages = monitor.pages(cpu)
            picture.pages = {at: page for at, page in pages.items() if at < USER_END}
        elif what == "copy":
            copy = re.findall(r"copy (\w+)", picture.said["modify"])[0]
            picture.words["copy"] = monitor.words(int(copy, 16), 512)
        elif what == "files":
            names = picture.kallsyms
            for name, count in (("__per_cpu_offset", 2), ("page_offset_base", 1)):
                picture.words[name] = monitor.words(min(names[name]), count)


def user_cpu(cpus: list[dict[str, int]], root: int | None) -> int | None:
    """The CPU that is in user mode with the page table at `root`, or its twin (isolation)."""
    for number_, cpu in enumerate(cpus):
        # the user's root is the page behind the kernel's; the low bits are flags
        if root and cpu["CPL"] == 3 and cpu["CR3"] & ~0x1FFF == root & ~0x1FFF:
            return number_
    return None


def boot(
    files: list[Path], release: str, log: Path, script: str, append: str, env: dict[str, str]
) -> Picture:
    picture = Picture(release, log)
    Boot(picture, files, script, append).run(env)
    return picture


@pytest.fixture(scope="module")
def boots(
    kbridge: Kbridge, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[tuple[str, str], Future[Picture]]]:
    """All boots, a few at a time."""
    kinds = {
        "plain": (LOOK + REST + IDTOOL, "", {}),
        "isolated": (LOOK + REFUSED, "pti=on preempt=full", FOUR_LEVELS),
    }
    found = {}
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        for release in KERNELS:
            folder = tmp_path_factory.mktemp("capabilities")
            files = build_samples(kbridge, folder, release)
            for kind, how in kinds.items():
                log = folder / f"{kind}.console"
                found[release, kind] = pool.submit(boot, files, release, log, *how)
        yield found
        pool.shutdown(cancel_futures=True)


@pytest.fixture(params=KERNELS)
def plain(request: pytest.FixtureRequest, boots: dict[tuple[str, str], Future[Picture]]) -> Picture:
    return boots[request.param, "plain"].result()


@pytest.fixture(params=KERNELS)
def isolated(
    request: pytest.FixtureRequest, boots: dict[tuple[str, str], Future[Picture]]
) -> Picture:
    return boots[request.param, "isolated"].result()


# 1: bracket


def test_bracket(plain: Picture) -> None:
    text = plain.said["bracket"]
    assert plain.status("bracket") == 0
    assert "ring 3, in the bracket 0, after it 3\n" in text
    cr3, table = (int(word, 16) for word in re.findall(r"0x([0-9a-f]+)", text))
    assert cr3 & ~0xFFF == table


# 2: instructions


def test_instructions(plain: Picture) -> None:
    text = plain.said["instructions"]
    rows = re.findall(r"^(\w.*?) +SEGV +(?:0x)?([0-9a-f]+)$", text, re.MULTILINE)
    value = {name: int(word, 16) for name, word in rows}
    assert len(value) == 5, text
    assert {value["mov %cr0, %reg"]} <= {cpu["CR0"] for cpu in plain.registers["files"]}
    assert value["rdmsr (LSTAR)"] in plain.kallsyms["entry_SYSCALL_64"]
    year = datetime.datetime.now(datetime.UTC).year % 100
    assert f"{value['out, in (CMOS year)']:x}" == f"{year:02}".lstrip("0")
    assert not value["cli, pushf, sti"] & 0x200
    found = re.findall(r"interrupts (on|off) +(\d+) timer \S+ \(/proc/interrupts: (\d+)\)", text)
    count = {how: (int(kernel), int(proc)) for how, kernel, proc in found}
    assert count["off"][0] == 0
    assert 0 < count["on"][0] <= count["on"][1]
    assert plain.status("instructions") == 0


# 3: registers


def check_registers(picture: Picture) -> None:
    text = picture.said["registers"]
    cpu = int(re.findall(r"^CPU (\d+)$", text, re.MULTILINE)[0])
    now = picture.registers["registers"][cpu]
    for name in BITS:
        assert number(text, name) == now[name], name
    assert number(text, "CR3") & ~0x1FFF == now["CR3"] & ~0x1FFF
    assert number(text, "FS_BASE") == now["FS"]
    assert number(text, "KERNEL_GS_BASE") == now["GS"], "user mode's GS"
    names = picture.kallsyms
    for name in ("LSTAR", "CSTAR"):
        symbol = re.findall(rf"^{name} +\S+ +(\S+)$", text, re.MULTILINE)[0]
        assert number(text, name) in names[symbol]
    flags = picture.said["cpuinfo"].split()
    for flag, bit in CR4_FLAGS.items():
        assert (flag in flags) == bool(number(text, "CR4") >> bit & 1), flag
    assert number(text, "STAR") == 0x23 << 48 | 0x10 << 32
    assert ("BSP" in text) == (cpu == 0)


def test_registers(plain: Picture) -> None:
    check_registers(plain)
    text = plain.said["registers"]
    cpu = int(re.findall(r"^CPU (\d+)$", text, re.MULTILINE)[0])
    assert number(text, "GS_BASE") == plain.words["__per_cpu_offset"][cpu]
    assert "PE MP ET NE WP AM PG" in text
    assert re.search(r"CR4 .* SMEP SMAP", text)


def test_registers_with_isolated_page_tables(isolated: Picture) -> None:
    check_registers(isolated)


# 4: tables


def gate(low: int, high: int) -> tuple[int, int, int, int, int]:
    """Segment, type, ist, dpl, handler (Intel's manual, volume 3, figure 6-8)."""
    handler = (high & 0xFFFFFFFF) << 32 | low >> 48 << 16 | low & 0xFFFF
    return low >> 16 & 0xFFFF, low >> 40 & 0xF, low >> 32 & 7, low >> 45 & 3, handler


def gates(words: list[int]) -> dict[int, tuple[int, int, int, int, int]]:
    """The gates that are present, by their vectors."""
    return {k: gate(*words[2 * k : 2 * k + 2]) for k in range(256) if words[2 * k] >> 47 & 1}


def segments(words: list[int]) -> dict[int, tuple[int, int, int]]:
    """Base, limit and dpl of the segments that are present (figure 3-8), by selector."""
    found, k = {}, 0
    while k < len(words):
        one = words[k]
        base = one >> 16 & 0xFFFFFF | one >> 56 << 24
        limit = one & 0xFFFF | (one >> 48 & 0xF) << 16
        if one >> 55 & 1:
            limit = limit << 12 | 0xFFF
        wide = one >> 47 & 1 and not one >> 44 & 1
        if wide:
            base |= (words[k + 1] & 0xFFFFFFFF) << 32
        if one >> 47 & 1:
            found[k * 8] = base, limit, one >> 45 & 3
        k += 2 if wide else 1
    return found


def check_tables(picture: Picture) -> None:
    text = picture.said["tables"]
    assert picture.status("tables") == 0
    where = re.findall(r"^([IG]DT) of CPU (\d) at 0x(\w+), limit 0x(\w+)$", text, re.MULTILINE)
    cpu = int(where[0][1])
    assert [row[0] for row in where] == ["IDT", "GDT"]
    for name, _, address, limit in where:
        assert int(address, 16) == picture.registers["registers"][cpu][name]
        assert int(limit, 16) == {"IDT": 0xFFF, "GDT": 0x7F}[name]
    types = {"interrupt": 0xE, "trap": 0xF}
    line = r"^ +(\d+) +0x(\w+)  (\w+) +(\d) +(\d)  (\w{16})  (\S+)$"
    rows = re.findall(line, text, re.MULTILINE)
    printed = {
        int(row[0]): (int(row[1], 16), types[row[2]], *map(int, row[3:5]), int(row[5], 16))
        for row in rows
    }
    assert printed == gates(picture.idt)
    names = picture.kallsyms
    for *_, handler, name in rows:
        start = {a for a in names[name] if a <= int(handler, 16)}
        assert start, name
        if name.startswith("asm_"):
            assert int(handler, 16) in start, name
    assert {"asm_exc_page_fault", "asm_exc_nmi"} <= {row[-1] for row in rows}
    line = r"^ +0x(\w+)  (\w{16})  (\w{8}) +(\d)  \S"
    found = {
        int(row[0], 16): (int(row[1], 16), int(row[2], 16), int(row[3]))
        for row in re.findall(line, text, re.MULTILINE)
    }
    assert found == segments(picture.gdt[cpu])


def test_tables(plain: Picture) -> None:
    check_tables(plain)


def test_tables_with_isolated_page_tables(isolated: Picture) -> None:
    check_tables(isolated)


# 4: page walk


def check_pagewalk(picture: Picture) -> None:
    text = picture.said["pagewalk"]
    levels = 5 if picture.registers["pagewalk"][0]["CR4"] >> 12 & 1 else 4
    assert f", {levels} levels, " in text
    assert ("PGD[" in text) == (levels == 5)
    line = r"^ +([0-9a-f]{12})-([0-9a-f]{12})  (\S{5}) +1 page of (\d+) KiB at 0x([0-9a-f]+)$"
    rows = re.findall(line, text, re.MULTILINE)
    assert len(rows) == len(picture.pages) > 500
    areas = [
        (int(start, 16), int(end, 16), rights)
        for start, end, rights in re.findall(r"^(\w+)-(\w+) (\S{4}) ", picture.said["maps"], re.M)
    ]
    for start, end, flags, size, physical in rows:
        at = int(start, 16)
        assert int(end, 16) - at == int(size) << 10
        found, bits = picture.pages[at]
        assert int(physical, 16) == found, start
        assert ("x" in flags, "w" in flags, "u" in flags) == (
            "X" not in bits,
            "W" in bits,
            "U" in bits,
        ), start
        assert "d" not in flags or "D" in bits, start
        assert (int(size) == 2048) == ("P" in bits), start
        rights = [r for low, high, r in areas if low <= at and int(end, 16) <= high]
        assert rights, f"{start} is in no mapping"
        assert ("x" in flags) == ("x" in rights[0]), start
        assert "w" not in flags or "w" in rights[0], start
    assert any(row[3] == "2048" for row in rows), "no huge page"
    assert re.search(r"^\d+ pages of 4 KiB, /proc/self/pagemap differs in 0$", text, re.MULTILINE)


def test_pagewalk(plain: Picture) -> None:
    check_pagewalk(plain)


def test_pagewalk_with_isolated_page_tables(isolated: Picture) -> None:
    assert "(page-table isolation)" in isolated.said["pagewalk"]
    check_pagewalk(isolated)


# 5: functions


def test_functions(plain: Picture) -> None:
    text = plain.said["functions"]
    assert plain.status("functions") == 0
    assert text.count("the same") == 9
    address = int(re.findall(r'"ksys_write"\) +0x(\w+)', text)[0], 16)
    assert {address} == plain.kallsyms["ksys_write"]


# 6: tasks


def processes(text: str) -> dict[int, tuple[str, int, int, int]]:
    """Name, parent, threads and resident pages of /proc/PID/stat, by process."""
    found = {}
    for pid, name, rest in re.findall(r"^(\d+) \((.*)\) (\S .*)$", text, re.MULTILINE):
        words = rest.split()
        found[int(pid)] = name, int(words[1]), int(words[17]), int(words[21])
    return found


def test_tasks(plain: Picture) -> None:
    text = plain.said["tasks"]
    before, after = processes(plain.said["before"]), processes(plain.said["after"])
    rows = re.findall(r"^ *(\d+) +(\d+) +(\d+) (\S) +(\d+) +(\d+) (.*)$", text, re.MULTILINE)
    found = {int(row[0]): row[1:] for row in rows}
    stayed = before.keys() & after.keys()
    assert len(stayed) > 30
    assert stayed <= found.keys()
    for pid in stayed:
        parent, uid, state, threads, resident, name = found[pid]
        assert uid == "0"
        assert state in "RSDI"
        assert (int(parent), int(threads)) == before[pid][1:3]
        # /proc adds a kworker's queue to its name, after a + or a -
        assert before[pid][0].startswith(name), pid
        if before[pid][3] == after[pid][3]:
            assert int(resident) == 4 * before[pid][3], pid
    own = int(re.findall(r"^process (\d+)$", text, re.MULTILINE)[0])
    assert found[own][5] == "tasks"
    assert plain.status("tasks") == 0


# 7 and 8: types and macros


def members(text: str, name: str, what: str = "bits_offset") -> dict[str, int]:
    """By a structure's members what bpftool says of each; the structure's size as ""."""
    found = re.search(
        rf"^\[\d+\] STRUCT '{name}' size=(\d+) vlen=\d+\n((?:\t.*\n)*)", text, re.MULTILINE
    )
    assert found, name
    rows = re.findall(rf"^\t'(\w+)' .*\b{what}=(\d+)", found[2], re.MULTILINE)
    return {"": int(found[1]), **{member: int(value) for member, value in rows}}


def test_types(plain: Picture, tmp_path: Path) -> None:
    text = plain.said["types_macros"]
    assert plain.status("types_macros") == 0
    values = dict(re.findall(r"^(\w.*?) {2,}(\w+)$", text, re.MULTILINE))
    types = tmp_path / "vmlinux.btf"
    types.write_bytes(parts.cached(images.find(plain.release).vmlinuz).types)
    dump = subprocess.run(
        ["bpftool", "btf", "dump", "file", types], capture_output=True, text=True, check=True
    ).stdout
    for name in ("task_struct", "file", "file_operations"):
        layout = members(dump, name)
        assert int(values[f"sizeof(struct {name})"]) == layout[""]
        for row, value in values.items():
            if row.startswith(f"offsetof(struct {name}, "):
                assert int(value) * 8 == layout[row.split()[-1].rstrip(")")], row
    comm = members(dump, "task_struct", "type_id")["comm"]
    sizes = re.findall(rf"^\[{comm}\] ARRAY .* nr_elems=(\d+)", dump, re.MULTILINE)
    assert sizes == [values["TASK_COMM_LEN"]]


def test_macros(plain: Picture) -> None:
    text = plain.said["types_macros"]
    values = dict(re.findall(r"^(\w.*?) {2,}(\w+)$", text, re.MULTILINE))
    kdir = target.find(plain.release).kdir
    config = dict(re.findall(r"^(CONFIG_\w+)=(.*)$", (kdir / ".config").read_text(), re.MULTILINE))
    assert values["HZ"] == config["CONFIG_HZ"]
    assert values["NR_CPUS"] == config["CONFIG_NR_CPUS"]
    enabled = config.get("CONFIG_X86_5LEVEL") == "y"
    assert values["IS_ENABLED(CONFIG_X86_5LEVEL)"] == str(int(enabled))
    names = plain.kallsyms
    # the first task's stack; since v6.10 it is named apart from the task
    end = min(names.get("__end_init_stack") or names["__end_init_task"])
    assert int(values["THREAD_SIZE"]) == end - min(names["init_stack"])
    assert int(values["PAGE_OFFSET"], 16) == plain.words["page_offset_base"][0]


def test_files(plain: Picture) -> None:
    names = plain.kallsyms
    line = r"^(\S.*?) +f_op (\w{16}) (\S+) +read (\w{16}) (\S+) +(\S{4})(?: family (\d+))?$"
    rows = re.findall(line, plain.said["types_macros"], re.MULTILINE)
    found = {what: rest for what, *rest in rows}
    for operations, name, read, read_name, *_ in found.values():
        assert int(operations, 16) in names[name]
        assert int(read, 16) in names[read_name]
    assert found["/dev/null"][1] == "null_fops"
    assert found["/dev/null"][4] == "-w--", "it was opened for writing"
    assert found["pipe"][3:5] in (["pipe_read", "rwp-"], ["anon_pipe_read", "rwp-"])
    assert found["socket"][3] == "sock_read_iter"
    assert [row[5] for row in found.values()].count("1") == 1, "AF_UNIX is 1"
    assert found["/proc file"][1] == "proc_pid_maps_operations"


# 9: linking


def test_linking(plain: Picture) -> None:
    text = plain.said["linking"]
    names = plain.kallsyms
    rows = re.findall(r"^\w{16}  (\w{16})  (\S+)$", text, re.MULTILINE)
    assert plain.status("linking") == 0
    assert len(rows) >= 6
    for address, name in rows:
        assert int(address, 16) in names[name]
    assert f"{len(rows)} names bound, 0 not" in text
    said = re.findall(
        r"binding file \./linking \[0\] to \S*libkernel\.so \[0\]: normal symbol `(\w+)'",
        plain.said["bindings"],
    )
    assert {name for _, name in rows} <= set(said)
    for name, address in re.findall(r"\b(ksys_write|init_task|linux_banner) at (\w+)", text):
        assert int(address, 16) in names[name]
    kernel, libc = re.findall(r"memcpy is at (\w+), the app's at (\w+)", text)[0]
    assert int(kernel, 16) in names["memcpy"]
    assert int(libc, 16) < USER_END
    assert f"the kernel says: Linux version {plain.release} " in text


# 10: application, 11: flow


def test_application(plain: Picture) -> None:
    text = plain.said["application"]
    assert plain.status("application") == 0, text
    assert "some signals, 0 mistakes, the clocks agree" in text
    rows = re.findall(
        r"^worker (\d): thread (\d+) of process (\d+), 500 calls, .* = (\S+)$", text, re.M
    )
    process = re.findall(r"^process (\d+)$", text, re.MULTILINE)[0]
    pi = 0.0
    for k in range(200_000):
        pi += (-4.0 if k % 2 else 4.0) / (2.0 * k + 1)
    assert sorted(row[0] for row in rows) == list("0123")
    assert len({row[1] for row in rows} | {process}) == 5
    assert {row[2:] for row in rows} == {(process, f"{pi:.9f}")}


def test_flow(plain: Picture) -> None:
    text = plain.said["flow"]
    assert plain.status("flow") == 0
    assert int(re.findall(r"a loop: (\d+) ticks", text)[0]) >= 3
    assert "qsort() by the kernel's word: 10 20 30 40 50 60" in text
    assert "longjmp() out of 10 calls: 10 into the kernel" in text
    made, counted = re.findall(r"made (\d+) calls, the kmod counted (\d+)", text)[0]
    assert made == counted
    assert int(made) > 30


# idtool


def test_idtool_reads(plain: Picture) -> None:
    base = plain.registers["files"][0]["IDT"]
    said = [f"CPU {cpu}: IDT at {base:#x}, limit 0xfff" for cpu in (0, 1, 1)]
    assert re.findall(r"^CPU.*", plain.said["get"], re.MULTILINE) == said
    rows = re.findall(
        r"^ +(\d+) +0x(\w+) +0x(\w) +(\d) +(\d)  (\w{16})  \S+$", plain.said["print"], re.MULTILINE
    )
    printed = {
        int(row[0]): (int(row[1], 16), int(row[2], 16), int(row[4]), int(row[3]), int(row[5], 16))
        for row in rows
    }
    assert printed == gates(plain.idt)


def test_idtool_modifies(plain: Picture) -> None:
    text = plain.said["modify"]
    before, after = gates(plain.idt), gates(plain.words["copy"])
    assert {k for k in before if before[k] != after[k]} == {2, 3, 5}
    assert (after[2][2], after[3][2]) == (0, 3)
    assert {after[5][4]} == plain.kallsyms["asm_exc_overflow"]
    assert f"{after[5][4]:016x}  asm_exc_overflow" in text
    assert re.findall(r"^status (\d)$", text, re.MULTILINE) == list("00000111")
    assert text.count("there is no copy that -c made, or that is no kernel code or no stack") == 3
    free = plain.said["free"]
    assert re.findall(r"^status (\d)$", free, re.MULTILINE) == list("011")
    assert "cannot free that IDT: there is no copy that -c made" in free


def test_idtool_installs(plain: Picture) -> None:
    text = plain.said["install"]
    copy = re.findall(r"^copy (\w+)", text)[0]
    assert f"CPU 1: IDT at {copy}, limit 0xfff\n" in text
    assert re.findall(r"^status (\d)$", text, re.MULTILINE) == list("011100000")
    assert text.count(": in use, or the CPU does not use the kernel's own IDT now") == 3
    rows = re.findall(r"^ +3  .*", text, re.MULTILINE)
    assert rows[0].endswith("[kb:idtool]"), "the code that counts"
    assert rows[1].endswith("  asm_exc_int3"), "it is in the copy only meanwhile"
    base = plain.registers["files"][0]["IDT"]
    for look in ("copy", "end"):
        assert [cpu["IDT"] for cpu in plain.registers[look]] == [base, base]


def test_idtool_counts(plain: Picture) -> None:
    counts = [int(n) for n in re.findall(r"vector 3: (\d+) times", plain.said["count"])]
    assert len(counts) == 4
    assert counts[1] - counts[0] == counts[3] - counts[2] == TRAP_COUNT
    assert plain.said["count"].count(f"{TRAP_COUNT} trapped") == 2
    low, high = (int(n) for n in re.findall(r"vector 14: (\d+) times", plain.said["faults"]))
    faults = int(re.findall(r"had (\d+) page faults", plain.said["faults"])[0])
    assert high - low >= faults > 10


def test_idtool_is_used_wrongly(plain: Picture) -> None:
    text = plain.said["wrong"]
    statuses = re.findall(r"^status (\d+)$", text, re.MULTILINE)
    assert statuses == [*"2221222", "2", "1", "127", "0"], text
    assert "hint: idtool --help" in text
    assert text.count("usage: idtool ACTION") == 1


@pytest.mark.parametrize("signal", ["INT", "TERM", "KILL", "SEGV"])
def test_idtool_is_ended(plain: Picture, signal: str) -> None:
    text = plain.said[signal]
    base = plain.registers["files"][0]["IDT"]
    while_it_ran = [cpu["IDT"] for cpu in plain.registers[signal]]
    assert while_it_ran[0] == base != while_it_ran[1]
    number_ = {"INT": 2, "TERM": 15, "KILL": 9, "SEGV": 11}[signal]
    assert f"status {128 + number_}\nCPU 1: IDT at {base:#x}, limit 0xfff\n" in text
    assert "in use, or the CPU does not use the kernel's own IDT" in text, "a second one"


def test_idtool_with_isolated_page_tables(isolated: Picture) -> None:
    text = isolated.said["idtool"]
    refusal = "idtool: cannot install that IDT: page-table isolation is on"
    assert text.count(refusal) == 2
    assert "hint: boot with pti=off" in text
    assert re.findall(r"^status (\d)$", text, re.MULTILINE) == ["1", "1"]
    assert "asm_exc_page_fault" in text
    base = isolated.registers["registers"][0]["IDT"]
    assert f"CPU 1: IDT at {base:#x}, limit 0xfff\n" in text
    assert [cpu["IDT"] for cpu in isolated.registers["end"]] == [base, base]


# the kernel's log


def check_log(log: Path) -> None:
    text = log.read_text(errors="replace")
    loaded = re.findall(r"kb:(\w+) loaded", text)
    assert sorted(loaded) == sorted(re.findall(r"kb:(\w+) freed", text))
    assert not complaints(log)


def test_kernel_log(plain: Picture) -> None:
    check_log(plain.log)
    assert set(readme_commands()) <= set(re.findall(r"kb:(\w+) freed", plain.log.read_text()))


def test_kernel_log_with_isolated_page_tables(isolated: Picture) -> None:
    check_log(isolated.log)
