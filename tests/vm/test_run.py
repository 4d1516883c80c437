# SPDX-License-Identifier: GPL-2.0-only
"""kbridge run, with real boots: what goes in, what comes out, how it ends."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kbridge.kernels import target

if TYPE_CHECKING:
    from vm.conftest import Guest

KERNELS = [kernel.release for kernel in target.installed()] or ["none installed"]
BUSYBOX = "/bin/busybox"


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Compiles C text; more words go to gcc."""

    def build(name: str, text: str, *flags: str) -> Path:
        folder = tmp_path_factory.mktemp(name)
        (folder / f"{name}.c").write_text(text)
        program = folder / name
        subprocess.run(["gcc", "-O2", *flags, f"{name}.c", "-o", name], cwd=folder, check=True)
        return program

    return build


def own_lines(stderr: str) -> list[str]:
    """What PROG wrote, without what kbridge says when it has to build something first."""
    return [line for line in stderr.splitlines() if not line.startswith("kbridge: ")]


def script(*lines: str) -> list[str]:
    return [BUSYBOX, "sh", "-c", "\n".join(lines)]


def test_modules_are_loaded_with_what_they_need(quiet_guest: Guest) -> None:
    done = quiet_guest("--module", "vfat", *script("cut -d ' ' -f 1 /proc/modules"))
    assert done.returncode == 0, done.stderr
    assert {"vfat", "fat"} <= set(done.stdout.split())
    done = quiet_guest("--module", "vfart", *script("true"))
    assert (done.returncode, "did you mean vfat?" in done.stderr) == (125, True), done.stderr


@pytest.mark.parametrize("release", KERNELS)
def test_a_program_meets_the_kernel_it_asks_for(
    quiet_guest: Guest, release: str, tmp_path: Path
) -> None:
    env = {"KB_WORD": "two words", "SSH_AUTH_SOCK": "/run/agent", "LC_TIME": "C.UTF-8"}
    done = quiet_guest(
        *("--kernel", release, "--cpus", "1"),
        *script(
            "echo to-stderr >&2",
            "uname -r; pwd; id -u; echo $0:$#:$1:$2",
            'echo "$KB_WORD:$SSH_AUTH_SOCK:$LC_TIME"',
            "for d in tmp dev/shm run var/tmp; do echo x > /$d/file && cat /$d/file; done",
            "ls -d /proc/self /sys/kernel /dev/null /dev/pts/ptmx /dev/fd/0",
            "ping -c 1 127.0.0.1 > /dev/null && echo loopback; nproc; stat -c %a /run/kbridge",
            "exit 7",
        ),
        *("zero", "--kernel", "a b"),
        env=env,
        cwd=tmp_path,
    )
    assert own_lines(done.stderr) == ["to-stderr"]
    folders = ["/dev/fd/0", "/dev/null", "/dev/pts/ptmx", "/proc/self", "/sys/kernel"]
    expected = [release, str(tmp_path), "0", "zero:2:--kernel:a b", "two words::C.UTF-8"]
    expected += ["x"] * 4
    lines = done.stdout.splitlines()
    assert lines[: len(expected)] == expected
    assert sorted(lines[len(expected) : -3]) == folders
    assert lines[-3:] == ["loopback", "1", "700"]
    assert done.returncode == 7


@pytest.mark.parametrize("release", KERNELS)
def test_libkernel_has_the_addresses_of_this_boot(
    quiet_guest: Guest, release: str, tmp_path: Path
) -> None:
    names = ("_stext", "init_task", "schedule", "vfs_read")
    pattern = f" ({'|'.join(names)})$"
    lines = (f"grep -E '{pattern}' /proc/kallsyms >&2", "cat /run/kbridge/libkernel.so")
    done = quiet_guest("--kernel", release, *script(*lines), text=False)
    assert done.returncode == 0
    library = tmp_path / "libkernel.so"
    library.write_bytes(done.stdout)
    shown = subprocess.run(
        ["readelf", "-W", "--dyn-syms", library], capture_output=True, text=True, check=True
    )
    rows = [line.split() for line in shown.stdout.splitlines()]
    values = {row[7].partition("@")[0]: row[1] for row in rows if len(row) == 8}
    said = [line.split() for line in done.stderr.decode().splitlines()]
    running = {words[2]: words[0] for words in said if words[0] != "kbridge:"}
    assert set(running) == set(names)
    assert {name: values[name] for name in names} == running


def test_streams_pass_byte_for_byte(quiet_guest: Guest) -> None:
    data = os.urandom(3 << 20) + b"\0\n\xff"
    done = quiet_guest("/bin/cat", input=data, text=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == data


def test_no_input_is_an_empty_input(quiet_guest: Guest) -> None:
    for how in ({"stdin": subprocess.DEVNULL}, {"preexec_fn": lambda: os.close(0)}):
        done = quiet_guest("/bin/cat", **how)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_output_that_nobody_reads_ends_the_program() -> None:
    command = [sys.executable, "-m", "kbridge", "run", "--timeout", "60", "/usr/bin/yes"]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline() == b"y\n"
        process.stdout.close()
        assert own_lines(process.stderr.read().decode()) == []
        assert process.wait(60) == 128 + signal.SIGPIPE


def test_files_come_along(quiet_guest: Guest, tmp_path: Path) -> None:
    folder = tmp_path / "folder with space"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub/one").write_text("1\n")
    os.utime(folder / "sub/one", (1, 987654321))
    (folder / "link").symlink_to("sub/one")
    alone = tmp_path / "a:b"
    alone.write_text("alone\n")
    done = quiet_guest(
        *("--file", f"{folder}:/data/in", "--file", f"{alone}:/etc/alone"),
        *script("cat /data/in/link /etc/alone; cd /data/in; readlink link; stat -c %Y sub/one"),
    )
    assert (done.returncode, done.stdout) == (0, "1\nalone\nsub/one\n987654321\n")


def test_orphans_do_not_hold_up_the_end(quiet_guest: Guest) -> None:
    begin = time.monotonic()
    done = quiet_guest(*script(f"{BUSYBOX} sleep 90 & {BUSYBOX} yes >&2 & echo done; exit 3"))
    assert (done.returncode, done.stdout) == (3, "done\n")
    assert time.monotonic() - begin < 80


def test_killed_by_a_signal(quiet_guest: Guest, compiled: Callable[..., Path]) -> None:
    program = compiled("fault", "int main(void) { *(volatile int *)0 = 1; }\n", "-w")
    done = quiet_guest(program)
    assert done.returncode == 128 + signal.SIGSEGV
    assert f"{program} was killed by SIGSEGV" in done.stderr
    assert "hint:" in done.stderr


def test_a_library_of_the_programs_own(
    quiet_guest: Guest, compiled: Callable[..., Path], tmp_path: Path
) -> None:
    own = "int own(void) { return 42; }\n"
    library = compiled("libown.so", own, "-shared", "-fPIC", "-Wl,-soname,libown.so")
    (tmp_path / "libs").symlink_to(library.parent)
    text = '#include <stdio.h>\nint own(void);\nint main(void) { printf("%d\\n", own()); }\n'
    program = compiled("uses", text, "-Wl,--no-as-needed", str(library))
    done = quiet_guest(program, env={"LD_LIBRARY_PATH": str(tmp_path / "libs")})
    assert (done.returncode, done.stdout, done.stderr) == (0, "42\n", "")
    done = quiet_guest(program, cwd=library.parent, env={"LD_LIBRARY_PATH": "."})
    assert (done.returncode, done.stdout, done.stderr) == (0, "42\n", "")


PANIC = """
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
int main(void) {
	puts("before");
	fflush(stdout);
	usleep(500000); /* a panic leaves nobody who passes on what is still in the pipe */
	return write(open("/proc/sysrq-trigger", O_WRONLY), "c", 1) + pause();
}
"""


@pytest.mark.parametrize("release", KERNELS)
def test_guest_panic(
    guest: Guest, compiled: Callable[..., Path], release: str, console_log: Path
) -> None:
    done = guest("--kernel", release, compiled("panic", PANIC, "-static"))
    assert (done.returncode, done.stdout) == (123, "before\n")
    assert "the guest's kernel panicked: sysrq triggered crash" in done.stderr
    assert "hint:" in done.stderr
    assert "Kernel panic" in console_log.read_text(errors="replace")


def test_time_out(kbridge: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    begin = time.monotonic()
    done = kbridge("run", "--timeout", "6", BUSYBOX, "sleep", "100")
    assert done.returncode == 124
    assert "not at its end after 6 s" in done.stderr
    assert "--timeout" in done.stderr
    assert time.monotonic() - begin < 60


def machines(mark: str) -> list[int]:
    """QEMU processes whose command line has `mark`."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_bytes()
        except OSError:
            continue
        if mark.encode() in line and line.startswith(b"/usr/bin/qemu"):
            found.append(int(file.parent.name))
    return found


@pytest.mark.parametrize("after", ["boot", "start"])
@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)],
)
def test_interrupted_leaves_nothing_behind(
    tmp_path: Path, number: signal.Signals, status: int, after: str
) -> None:
    mark = f"kbridge.test={tmp_path.name}"
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    command = [sys.executable, "-m", "kbridge", "run", "--append", mark, "--timeout", "60"]
    with subprocess.Popen(
        [*command, *script("echo ready; exec sleep 60")],
        env={**os.environ, "TMPDIR": str(temporary)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout
        if after == "boot":
            assert process.stdout.readline() == b"ready\n"
        else:
            while not machines(mark):
                time.sleep(0.02)
        process.send_signal(number)
        assert process.wait(30) == status
    end = time.monotonic() + 10
    while machines(mark) and time.monotonic() < end:
        time.sleep(0.05)
    assert not machines(mark)
    assert not list(temporary.iterdir())


def test_a_program_that_is_none(kbridge: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    ldd = "/usr/bin/ldd"
    for program, status, said in (
        ("./nowhere", 127, "No such file"),
        ("kbridge-nowhere", 127, "not found in PATH"),
        ("/tmp", 126, "is a folder"),
        (".", 126, "is a folder"),
        (__file__, 126, "not an ELF program"),
        (ldd, 126, "a script"),
        ("/etc/passwd", 126, "not"),
    ):
        done = kbridge("run", program)
        assert done.returncode == status, done.stderr
        assert said in done.stderr.splitlines()[0]
        assert "hint:" in done.stderr.splitlines()[1]
        assert done.stdout == ""


def test_dry_run_starts_nothing(kbridge: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = kbridge(
        "run", "--dry-run", "--kernel", KERNELS[-1], "--memory", "700", "/bin/cat", "a b"
    )
    assert done.returncode == 0, done.stderr
    line = next(one for one in done.stdout.splitlines() if not one.startswith("#"))
    words = shlex.split(line)
    assert words[0].endswith("qemu-system-x86_64")
    assert words[words.index("-m") + 1] == "700M"
    assert "nokaslr" not in line
    assert re.search(r"^# runs, in .*: /bin/cat 'a b'$", done.stdout, re.MULTILINE)
    assert "libc.so.6" in done.stdout
