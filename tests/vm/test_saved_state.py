# SPDX-License-Identifier: GPL-2.0-only
"""kbridge run goes on from a saved machine state: as quick as it is, it is a machine of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import Kbridge
from guest_shell import LIBRARIES
from kernel_log import complaints

from kbridge.kernels import target

KERNELS = [kernel.release for kernel in target.installed()] or ["none installed"]
PYTHON = Path(sys.executable)
WENT_ON = "went on from a saved state"

FACTS = """
cd /proc
cat sys/kernel/random/uuid sys/kernel/random/boot_id
grep -E ' [Tt] _text$' kallsyms
grep stack self/maps
ls -d /var/left 2>/dev/null
touch /var/left
date +%s
cat /sys/class/rtc/rtc0/since_epoch
cat uptime
"""


class Runs:
    """`kbridge run` with saved states of this test's own."""

    def __init__(self, kbridge: Kbridge, folder: Path) -> None:
        self.kbridge = kbridge
        self.states = folder / "cache/states"
        self.log = folder / "console"
        shared = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kbridge"
        self.states.mkdir(parents=True)
        for part in shared.iterdir():  # all else may well be shared
            if part.name not in ("states", "initramfs"):
                (self.states.parent / part.name).symlink_to(part)
        self.env = {
            **os.environ,
            "KBRIDGE_CACHE": str(self.states.parent),
            "KBRIDGE_CONSOLE_LOG": str(self.log),
        }

    def __call__(self, *args: str | Path) -> subprocess.CompletedProcess[str]:
        done = self.kbridge("run", "--verbose", "--timeout", "120", *args, env=self.env)
        assert not complaints(self.log)
        return done

    def facts(self, release: str, *how: str) -> tuple[dict[str, str], str]:
        """What FACTS shows of the machine, and what kbridge said."""
        share = [word for file in LIBRARIES for word in ("--file", f"{file}:{file}")]
        words = ["--kernel", release, *how, *share, "/bin/busybox", "sh", "-c", FACTS]
        begin = time.time()
        done = self(*words)
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        names = ("uuid", "boot_id", "text", "stack", "date", "rtc", "uptime")
        assert len(lines) == len(names), lines  # so nothing is left of the run before
        found = dict(zip(names, lines, strict=True))
        for clock in ("date", "rtc"):
            assert begin - 2 <= int(found[clock]) <= time.time() + 2, clock
        return found, done.stderr


@pytest.fixture
def runs(kbridge: Kbridge, tmp_path: Path) -> Runs:
    return Runs(kbridge, tmp_path)


@pytest.mark.parametrize("release", KERNELS)
def test_a_state_is_saved_and_gone_on_from(runs: Runs, release: str) -> None:
    first, said = runs.facts(release)
    assert WENT_ON not in said
    second, said = runs.facts(release)
    assert WENT_ON in said
    third, said = runs.facts(release)
    assert WENT_ON in said
    # random numbers are each run's own; what was drawn at boot is the state's
    for name in ("uuid", "boot_id", "stack"):
        assert len({first[name], second[name], third[name]}) == 3, name
    assert first["text"] == second["text"] == third["text"]
    fresh, said = runs.facts(release, "--fresh")
    assert WENT_ON not in said
    assert fresh["text"] != first["text"] or runs.facts(release, "--fresh")[0] != first["text"]
    assert len(list(runs.states.iterdir())) == 1


def test_the_console_tells_of_the_boot(runs: Runs) -> None:
    """Whichever machine it was."""
    said = []
    for _ in range(2):
        done = runs("/bin/true")
        assert "Linux version" in done.stderr
        said.append(re.findall(r"^\[ +\d+\.\d+\] Command line:.*", runs.log.read_text(), re.M))
    assert len(said[0]) == 1
    assert said[0] == said[1]


def test_options_have_states_of_their_own(runs: Runs) -> None:
    for how in (["--cpus", "1"], ["--memory", "400"], ["--append", "kbridge_x=1"]):
        for went_on in (False, True):
            words = [*how, "/bin/busybox", "sh", "-c", "nproc; free -m; cat /proc/cmdline"]
            done = runs("--file", "/bin/busybox:/bin/sh", *words)
            assert done.returncode == 0, done.stderr
            assert (WENT_ON in done.stderr) == went_on
            assert (done.stdout.splitlines()[0] == "1") == ("--cpus" in how)
            assert ("kbridge_x=1" in done.stdout) == ("--append" in how)
            total = int(re.findall(r"Mem: +(\d+)", done.stdout)[0])
            assert (total < 400) == ("--memory" in how)


def test_damaged_states_are_said_and_not_used(runs: Runs) -> None:
    assert runs("/bin/true").returncode == 0
    (state,) = runs.states.iterdir()
    with (state / "memory").open("r+b") as stream:
        stream.seek(40 << 20)
        stream.write(b"damaged")
    done = runs("/bin/true")
    assert done.returncode == 0
    assert "the saved machine state is not used: its file memory is damaged" in done.stderr
    assert WENT_ON not in done.stderr
    done = runs("/bin/true")
    assert WENT_ON in done.stderr
    assert "not used" not in done.stderr


def test_a_state_that_qemu_refuses(runs: Runs) -> None:
    """Its digests are right, and QEMU cannot load it."""
    assert runs("/bin/true").returncode == 0
    (state,) = runs.states.iterdir()
    script = (
        "import contextlib, sys\n"
        "from kbridge.vm import states\n"
        "from pathlib import Path\n"
        "import json\n"
        "folder = Path(sys.argv[1])\n"
        "(folder / 'devices').write_bytes(b'QEVM' + bytes(100))\n"
        "manifest = json.loads((folder / 'manifest').read_text())\n"
        "with (folder / 'devices').open('rb', buffering=0) as stream:\n"
        "    manifest['devices'] = states._digest(stream.fileno())\n"
        "(folder / 'manifest').write_text(json.dumps(manifest))\n"
    )
    subprocess.run([str(PYTHON), "-c", script, str(state)], check=True)
    done = runs("/bin/true")
    assert done.returncode == 0, done.stderr
    assert "the saved machine state is not used: " in done.stderr
    assert WENT_ON in runs("/bin/true").stderr


def test_a_state_that_cannot_be_compared(runs: Runs, tmp_path: Path) -> None:
    """Whatever keeps it from being compared, it is not used."""
    assert runs("/bin/true").returncode == 0
    (tmp_path / "sitecustomize.py").write_text(
        "import os, threading\n"
        "real = os.pread\n"
        "def pread(*words):\n"
        "    if threading.current_thread() is not threading.main_thread():\n"
        "        raise OSError(5, 'Input/output error')\n"
        "    return real(*words)\n"
        "os.pread = pread\n"
    )
    runs.env["PYTHONPATH"] = str(tmp_path)
    done = runs("/bin/true")
    assert done.returncode == 0, done.stderr
    assert "it cannot be read: [Errno 5]" in done.stderr
    assert "Traceback" not in done.stderr
    assert WENT_ON not in done.stderr


def test_several_at_once(runs: Runs) -> None:
    """Nobody has a state at first, and all of them save one."""

    def run(number: int) -> subprocess.CompletedProcess[str]:
        env = {**runs.env, "KBRIDGE_CONSOLE_LOG": f"{runs.log}.{number}"}
        words = ["/bin/sh", "-c", f"echo {number}; exit {number}"]
        return runs.kbridge("run", "--timeout", "200", *words, env=env)

    for _ in range(2):
        with ThreadPoolExecutor(3) as pool:
            for number, done in enumerate(pool.map(run, range(3))):
                assert (done.stdout, done.returncode) == (f"{number}\n", number), done.stderr
                assert "not used" not in done.stderr
    assert len(list(runs.states.iterdir())) == 1


def test_a_cache_that_cannot_be_written_is_said(runs: Runs) -> None:
    """The run goes on without a state."""
    assert runs("/bin/true").returncode == 0
    (state,) = runs.states.iterdir()
    state.rename(state.parent.parent / "elsewhere")
    runs.states.rmdir()
    runs.states.symlink_to("/proc/self/fdinfo")  # which nobody can write, not even root
    done = runs("/bin/true")
    assert done.returncode == 0, done.stderr
    assert "the machine's state is not saved" in done.stderr
