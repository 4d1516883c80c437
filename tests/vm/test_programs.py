# SPDX-License-Identifier: GPL-2.0-only
"""Whole programs in ring 0: what they are, where their time goes, what each adaptor prevents."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import Kbridge
from guest_shell import LIBRARIES, console_log_environment
from kernel_log import complaints

from kbridge import elevation, paths
from kbridge.kernels import packages, target
from kbridge.vm import hostroot, qemu

PROGRAMS = Path(__file__).with_name("programs")
KERNELS = [kernel.release for kernel in target.installed()]
INTERFACE = paths.source("kernel", "kelevate")
HARD = "pti=on preempt=full"

RINGS = """\
main 10
thread 10
handler 10
handler's stack own
fresh 1
alarm 10
alarms many
memory right
sum 249999750000
child {0}
main {0}
system done
end 10
"""
RINGS_LEFT, RINGS_INHERITED = RINGS.format(33), RINGS.format(10)

SHELL = """\
ONE THREE
/
inner innermost
1
trapped
status 5
Segmentation fault
segv 139
3
terminated 143
press C
^Cinterrupted 130
press Z
^Z[1]+  Stopped                    sleep 100
stopped 148
[1]+  Stopped                    sleep 100
[1] sleep 100
30000
"""


def some(*few: tuple[Any, ...], rest: Iterable[tuple[Any, ...]] = ()) -> list[Any]:
    """The parameters `few`, and the `rest` only in `make test-all`."""
    slow = [pytest.param(*one, marks=pytest.mark.slow) for one in rest]
    return [*(pytest.param(*one) for one in few), *slow]


MACHINES = some((KERNELS[0], ""), (KERNELS[-1], HARD), rest=[(KERNELS[0], HARD), (KERNELS[-1], "")])


def at_least(ticks: int) -> int:
    """So many where the processor is emulated; KVM is too fast to be interrupted often."""
    return 0 if qemu.kvm_works() else ticks


@dataclass(frozen=True)
class Ticks:
    """Timer interrupts: in user code of ring 0 and 3, in the kernel; and how many threads."""

    ring0: int
    ring3: int
    kernel: int
    threads: int

    def check(self, least: int) -> None:
        """More than `least` interrupts in ring 0, and more than 90 % of those in user code."""
        assert self.ring0 > at_least(least), self
        assert self.ring0 > 0.9 * (self.ring0 + self.ring3), self


def ticks(text: str) -> list[Ticks]:
    """What `elevate` and --count say."""
    ours = re.findall(r"counts (\d+) (\d+) (\d+) threads (\d+)", text)
    shown = r"\((\d+) in ring 0, (\d+) in ring 3; (\d+) in the kernel; threads: (\d+)\)"
    return [Ticks(*map(int, found)) for found in [*ours, *re.findall(shown, text)]]


def libraries(*files: Path) -> list[str]:
    found = set()
    for file in files:
        listed = subprocess.run(["ldd", file], capture_output=True, text=True, check=True)
        found |= set(re.findall(r"(/\S+) \(0x", listed.stdout))
    return sorted(found)


@dataclass(frozen=True)
class Machine:
    """A guest in which busybox's shell runs, with `elevate` to elevate programs."""

    kbridge: Kbridge
    folder: Path

    def compile(self, *names: str) -> list[Path]:
        for name in names:
            words = ["gcc", "-O2", "-Wall", "-Werror", "-pthread", f"-I{INTERFACE}"]
            made = self.folder / name
            subprocess.run([*words, "-o", made, PROGRAMS / f"{name}.c"], check=True)
        return [self.folder / name for name in names]

    @property
    def log(self) -> Path:
        return self.folder / "console"

    def run(
        self, release: str, append: str, script: str, more: Sequence[str] = (), seconds: int = 240
    ) -> subprocess.CompletedProcess[str]:
        """`more`: HOST:GUEST.  Both outputs are in stdout."""
        own = [f"{file}:/bin/{file.name}" for file in self.compile("elevate", "rings")]
        shares = [*own, "/bin/busybox:/bin/sh", *(f"{file}:{file}" for file in LIBRARIES), *more]
        files = [word for share in shares for word in ("--file", share)]
        how = ["--kernel", release, "--append", append, "--memory", "1024"]
        how += ["--timeout", str(seconds)]
        start = "exec 2>&1; export PATH=/bin:/usr/bin; sh -c 'busybox --install -s /bin'; "
        shell = ["/bin/busybox", "sh", "-c", start + script]
        return self.kbridge("run", *how, *files, *shell, env=console_log_environment(self.log))


@pytest.fixture
def machine(kbridge: Kbridge, tmp_path: Path) -> Machine:
    return Machine(kbridge, tmp_path)


def parts(text: str) -> dict[str, str]:
    """The output between lines "== NAME"."""
    pieces = re.split(r"^== (.*)\n", text, flags=re.MULTILINE)[1:]
    return dict(zip(pieces[::2], pieces[1::2], strict=True))


@pytest.mark.parametrize(("release", "append"), MACHINES)
def test_a_program_and_a_shell(machine: Machine, release: str, append: str) -> None:
    script = """
        echo "== alone"; elevate rings
        echo "== inherited"; elevate -i rings
        echo "== shell"; elevate -i -t busybox ash /shell.sh
    """
    done = machine.run(release, append, script, [f"{PROGRAMS / 'shell.sh'}:/shell.sh"])
    # when the shell notices the end of a job in the background is not for us to know
    said = parts(
        re.sub(
            r"^(\[\d\]\+ +)?(Killed|Terminated|Done).*\n|\r", "", done.stdout, flags=re.MULTILINE
        )
    )
    for name, expected, threads in (
        ("alone", RINGS_LEFT, 4),
        ("inherited", RINGS_INHERITED, 6),
        ("shell", SHELL, 15),
    ):
        text, counts = re.split("^(?=counts)", said[name], flags=re.MULTILINE)
        assert text == expected, name
        (found,) = ticks(counts)
        found.check(20)
        assert found.threads >= threads, name
    assert not complaints(machine.log)


HOTPLUG = """
    (
        online=/sys/devices/system/cpu/cpu1/online
        for k in 1 2 3 4 5 6; do
            echo 0 >$online; sleep 0.3; echo 1 >$online; sleep 0.3
        done
        echo "== toggled"
    ) >/toggled &
    for k in 1 2 3; do echo "== $k"; elevate -i rings; done
    wait
    cat /toggled
"""


@pytest.mark.slow
@pytest.mark.parametrize("append", ["preempt=full", "nohz_full=1"])
@pytest.mark.parametrize("release", KERNELS)
def test_processors_come_and_go(machine: Machine, release: str, append: str) -> None:
    done = machine.run(release, append, HOTPLUG)
    said = parts(done.stdout)
    assert list(said) == ["1", "2", "3", "toggled"], done.stdout
    for name in "123":
        assert said[name].startswith(RINGS_INHERITED), said[name]
        ticks(said[name])[0].check(5)
    assert not complaints(machine.log)


def memcached() -> Path:
    """The program out of its package, unpacked in the cache: installed, it would be a service."""
    folder = paths.cache("sources") / "memcached"
    program = folder / "usr/bin/memcached"
    if not program.is_file():
        with packages.beside(folder) as temporary:
            fetched = packages.download("memcached", None, temporary, what="memcached")
            subprocess.run(["dpkg-deb", "-x", fetched, temporary / "unpacked"], check=True)
            (temporary / "unpacked").rename(folder)
    return program


@pytest.mark.parametrize(
    ("release", "append"),
    some((KERNELS[-1], ""), rest=[(KERNELS[0], ""), (KERNELS[0], HARD), (KERNELS[-1], HARD)]),
)
def test_redis_and_memcached(machine: Machine, release: str, append: str) -> None:
    redis = [Path("/usr/bin") / f"redis-{name}" for name in ("check-rdb", "benchmark", "cli")]
    server, load = memcached(), machine.compile("memcached_load")[0]
    files = [*map(str, redis), *libraries(*redis, server)]
    shares = [f"{file}:{file}" for file in files if file not in LIBRARIES]
    shares += [f"{server}:/usr/bin/memcached", f"{load}:/bin/memcached_load"]
    shares.append(f"{PROGRAMS / 'servers.sh'}:/servers.sh")
    said = parts(machine.run(release, append, "sh /servers.sh", shares).stdout)
    assert said["redis"].count("requests per second") == 6, said["redis"]
    assert "OK\na value\n20000100000\n" in said["redis"]
    ticks(said["redis"])[0].check(10)
    assert said["both"].count("requests per second") == 2, said["both"]
    assert "rdb_last_bgsave_status:ok" in said["both"]
    client, both = ticks(said["both"])
    client.check(5)
    both.check(5)
    assert client.threads >= 3  # its own two, and main()
    assert said["memcached"].startswith("values 2000\n")
    ticks(said["memcached"])[0].check(5)
    # setuid() took CAP_SYS_MODULE: what came before was in ring 0, the rest is not
    given = said["memcached, which gives its rights away"]
    assert given.startswith("values 2000\n")
    assert ticks(given)[0].ring3 > at_least(5)
    assert ticks(given)[0].ring3 > ticks(given)[0].ring0
    assert not complaints(machine.log)


# Adaptors left out

OTHERS = some((KERNELS[0],), rest=[(release,) for release in KERNELS[1:]])


def bit(name: str) -> int:
    (adaptor,) = (one for one in elevation.ADAPTORS if one.name == name)
    return 1 << adaptor.bit


def claim(name: str) -> str:
    (adaptor,) = (one for one in elevation.ADAPTORS if one.name == name)
    return adaptor.without


@pytest.mark.parametrize("release", OTHERS)
def test_without_adaptors_that_end_only_the_program(machine: Machine, release: str) -> None:
    names = ("fault", "smep", "smap", "pti", "ibt", "threads")
    lines = [
        f'echo "== {name}"; timeout 5 elevate -w {bit(name)} rings; echo "status $?"'
        for name in names
    ]
    lines.append('echo "== after"; elevate rings')
    said = parts(machine.run(release, "pti=on", "; ".join(lines)).stdout)
    assert "status 137" in said["fault"]
    assert "an oops ends the program" in claim("fault")
    for name in ("smep", "pti"):
        assert "status 139" in said[name], said[name]
        assert "the first instruction faults: SIGSEGV" in claim(name)
    # served, and tried again, until timeout(1) sends SIGTERM
    assert "status 143" in said["smap"], said["smap"]
    assert "stands still until it is killed" in claim("smap")
    for name in names[:4]:
        assert "main" not in said[name], said[name]
    # these machines have none, so nothing is missing
    assert said["ibt"].startswith(RINGS_LEFT)
    assert "not tried" in claim("ibt")
    assert said["threads"].startswith(RINGS_LEFT.replace("thread 10", "thread 33"))
    assert ticks(said["threads"])[0].threads == 1
    assert claim("threads") == "new threads run in ring 3"
    assert said["after"].startswith(RINGS_LEFT)
    assert not complaints(machine.log, ["Comm: rings"])


@pytest.mark.parametrize(
    ("name", "release"),
    some(
        ("stack", KERNELS[0]),
        ("syscall", KERNELS[-1]),
        rest=[("stack", KERNELS[-1]), ("syscall", KERNELS[0])],
    ),
)
def test_without_adaptors_that_end_the_machine(machine: Machine, name: str, release: str) -> None:
    done = machine.run(release, "", f"elevate -w {bit(name)} rings fresh", seconds=30)
    log = machine.log.read_text(errors="replace")
    assert "main" not in done.stdout
    if name == "stack":
        assert done.returncode == 123
        assert "double fault" in log
        assert "the guest's kernel panicked" in done.stderr
        assert "a double fault: the machine panics" in claim(name)
    else:
        assert done.returncode in (123, 124)
        if done.returncode == 123:
            assert "the guest ended before PROG did" in done.stderr or "panicked" in done.stderr
        assert "the machine resets, panics or hangs" in claim(name)


# With Python, whose library is on this machine's root

PYTHON = [
    *("main {0}", "threads {0} {0} {0} {0}", "signals {0}", "fork {1}", "fork ended 0"),
    *("fault ended -11", "subprocess {1}", "pool {1}", "asyncio {1} {0} {0}", "worked 100000"),
]


def run_with_root(
    kbridge: Kbridge, log: Path, *words: str | Path
) -> subprocess.CompletedProcess[str]:
    env = console_log_environment(log)
    return kbridge("run", "--root", "host", "--timeout", "300", *words, env=env)


@pytest.mark.parametrize(
    ("flavour", "append", "inherit"),
    some(
        ("newest", "", True),
        rest=[("newest", HARD, False), (KERNELS[0].replace("-cloud", ""), "", False)],
    ),
)
def test_python(kbridge: Kbridge, tmp_path: Path, flavour: str, append: str, inherit: bool) -> None:
    log = tmp_path / "console"
    how = ["--elevate", "--count", *(["--inherit"] if inherit else [])]
    how += [] if flavour == "newest" else ["--kernel", flavour]
    program = [sys.executable, PROGRAMS / "rings.py"]
    done = run_with_root(kbridge, log, *how, "--append", append, *program)
    assert done.returncode == 0, done.stderr
    expected = [line.format("10", "10" if inherit else "33") for line in PYTHON]
    assert done.stdout.splitlines() == expected
    ticks(done.stderr)[0].check(100)
    assert not complaints(log)


MIXED = """
cd {root}
gcc -O2 -c runtime/gate.c -Iruntime -Ikernel/kelevate -o {folder}/gate.o && md5sum <{folder}/gate.o
perl -e 'my %h; $h{{$_ % 1000}} .= "x" for 1..100000; print scalar(keys %h), "\\n"'
tar cf - runtime | gzip -n | gunzip | tar tf - | sort | md5sum
find runtime guest -name '*.c' | sort | xargs -P 4 -n 3 grep -c include | sort | md5sum
awk 'BEGIN {{ for (i = 0; i < 100000; i++) s += sqrt(i); print s }}'
"""


@pytest.mark.slow
@pytest.mark.parametrize("append", ["", HARD])
def test_a_compiler_perl_and_others(kbridge: Kbridge, tmp_path: Path, append: str) -> None:
    """They say in ring 0 what they say here."""
    script = tmp_path / "script"
    script.write_text(MIXED.format(root=paths.source(), folder=tmp_path))
    here = subprocess.run(["sh", script], capture_output=True, text=True, check=True)
    assert len(here.stdout.splitlines()) == 5
    how = ["--elevate", "--inherit", "--count", "--cpus", "4", "--memory", "1024"]
    log = tmp_path / "console"
    done = run_with_root(kbridge, log, *how, "--append", append, "sh", script)
    assert done.stdout == here.stdout, done.stderr
    ticks(done.stderr)[0].check(100)
    assert ticks(done.stderr)[0].threads > 15
    assert not complaints(log)


@pytest.mark.slow
def test_this_machines_root(kbridge: Kbridge, tmp_path: Path) -> None:
    """Its files are there, what is written is not here afterwards; statuses as ever."""
    script = tmp_path / "a script"
    script.write_text(
        "#!/bin/sh\npwd; cat; cat data; echo changed >data; cat data; touch /usr/x /etc/x /tmp/x\n"
        "modprobe dummy && ls -d /sys/module/dummy; echo error >&2; exit 7\n"
    )
    script.chmod(0o755)
    (tmp_path / "data").write_text("from here\n")
    done = kbridge("run", "--root", "host", script, cwd=tmp_path, input="input\n", timeout=300)
    assert done.stdout == f"{tmp_path}\ninput\nfrom here\nchanged\n/sys/module/dummy\n", done.stderr
    assert done.returncode == 7, done.stderr
    assert done.stderr == "error\n"
    assert (tmp_path / "data").read_text() == "from here\n"
    assert not any(Path(name).exists() for name in ("/usr/x", "/etc/x"))
    log = tmp_path / "console"
    crash = ("sh", "-c", "sync; echo c >/proc/sysrq-trigger")
    done = run_with_root(kbridge, log, *crash)
    assert done.returncode == 123, done.stderr
    assert "panicked: sysrq triggered crash" in done.stderr
    done = kbridge("run", "--root", "host", "--timeout", "3", "sleep", "100")
    assert done.returncode == 124


def test_root_host_asks_for_a_kernel_with_9p(kbridge: Kbridge) -> None:
    done = kbridge("run", "--root", "host", "--kernel", KERNELS[0], "true")
    assert done.returncode == 125
    assert "has no 9p, 9pnet_virtio" in done.stderr
    assert f"--kernel {KERNELS[0].replace('-cloud', '')}" in done.stderr
    done = kbridge("run", "--root", "host", "--dry-run", "true")
    assert done.returncode == 0, done.stderr
    assert f"# kernel {hostroot.newest()}; its root is this machine's" in done.stdout
    assert "mount_tag=/dev/root" in done.stdout


# kbridge elevate, where kelevate is


def test_elevate_on_a_machine_without_kelevate(kbridge: Kbridge) -> None:
    assert not Path(elevation.DEVICE).exists()
    done = kbridge("elevate", "--", "true")
    assert done.returncode == 125
    assert done.stderr.startswith(f"kbridge: error: {elevation.DEVICE} is not there\n")
    modules = Path("/proc/sys/kernel/modules_disabled").exists()
    words = 'insmod "$(kbridge kelevate' if modules else "kbridge run --elevate PROG"
    assert words in done.stderr
    done = kbridge("elevate", "--", "no-such-program")
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        127,
        "kbridge: error: no-such-program: not found in PATH",
    )
    done = kbridge("elevate", "--without", "smepp", "--", "true")
    assert done.returncode == 125
    assert "--without smepp: no such adaptor" in done.stderr
    assert "did you mean smep?" in done.stderr


ELEVATE = """\
try() {{ echo "== $*"; "$@"; echo "status $?"; }}
exec 2>&1
kb="{python} -m kbridge elevate"
drop="setpriv --bounding-set -sys_module --inh-caps -sys_module"
try $kb --count -- {rings}
try $kb -- sh -c 'exit 7'
try $kb --inherit --count -- sh -c '{rings} main; kill -9 $$'
try $kb -- /etc/passwd
try $kb --without threads --count -- {rings}
try $drop $kb -- {rings} main
try $drop $kb --count -- {rings} main
try rmmod kelevate
try $kb -- {rings}
"""


@pytest.mark.slow
def test_elevate_on_a_machine_with_kelevate(kbridge: Kbridge, machine: Machine) -> None:
    """That is: in a guest which has this machine's root, and so Python and kbridge."""
    rings = machine.compile("rings")[0]
    script = machine.folder / "script"
    script.write_text(ELEVATE.format(python=sys.executable, rings=rings))
    env = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    done = kbridge("run", "--root", "host", "--timeout", "300", "sh", script, env=env)
    assert done.returncode == 0, done.stderr
    said = list(parts(done.stdout).values())
    statuses = [re.findall(r"^status (\d+)$", one, re.MULTILINE)[-1] for one in said]
    assert statuses == ["0", "7", "137", "126", "0", "125", "125", "0", "125"], done.stdout
    assert said[0].startswith(RINGS_LEFT)
    ticks(said[0])[0].check(20)
    assert said[2].startswith("main 10\n")
    assert ticks(said[2])[0].threads == 2
    assert "was killed by SIGKILL" in said[2]
    assert said[4].startswith(RINGS_LEFT.replace("thread 10", "thread 33"))
    for one in said[5:7]:
        assert one.startswith("kbridge: error: may not elevate: it takes CAP_SYS_MODULE")
    assert said[8].startswith(f"kbridge: error: {elevation.DEVICE} is not there")
