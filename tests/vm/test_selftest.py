# SPDX-License-Identifier: GPL-2.0-only
"""kernel/selftest, the module's own self-test, as somebody runs it who has only the module."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import Kbridge
from guest_shell import LIBRARIES, console_log_environment
from kernel_log import complaints

from kbridge.kernels import target

SOURCE = Path(__file__).resolve().parents[2] / "kernel"
KERNELS = [kernel.release for kernel in target.installed()] or ["none installed"]


def built(folder: Path) -> Path:
    """Made by its own Makefile; run_tests skips here, where there is no kelevate."""
    for name in ("selftest", "kelevate"):
        shutil.copytree(SOURCE / name, folder / name)
    make = ["make", "-C", folder / "selftest", "CFLAGS=-O2 -Wall -Werror"]
    subprocess.run(make, check=True, capture_output=True)
    return folder / "selftest/kelevate_test"


@pytest.mark.parametrize("append", ["", "pti=on preempt=full"])
@pytest.mark.parametrize("release", KERNELS)
def test_selftest(kbridge: Kbridge, tmp_path: Path, release: str, append: str) -> None:
    program, log = built(tmp_path), tmp_path / "console"
    script = f"""
        {program}; echo "status $?"
        echo == again; {program} > /dev/null; echo "status $?"
        echo == nobody; cp {program} /bin/try; su -s /bin/try nobody; echo "status $?"
        echo == disabled; echo 1 > /proc/sys/kernel/modules_disabled; {program}; echo "status $?"
    """
    files = [word for file in (*LIBRARIES, program) for word in ("--file", f"{file}:{file}")]
    how = ["--kernel", release, "--cpus", "2", "--timeout", "120", "--append", append, *files]
    done = kbridge(
        *("run", *how, "/bin/busybox", "sh", "-c", script), env=console_log_environment(log)
    )
    said = done.stdout + done.stderr
    first, again, nobody, disabled = done.stdout.split("== ")
    lines = first.splitlines()
    assert lines[0] == "TAP version 13", said
    results = [line for line in lines if re.match(r"(?:not )?ok \d+ ", line)]
    assert lines[-2:] == [f"1..{len(results)}", "status 0"], said
    assert [int(line.split()[1]) for line in results] == [*range(1, len(results) + 1)], said
    assert "# SKIP" not in first, said
    assert len(results) > 60
    assert again == "again\nstatus 0\n", said
    for text in (nobody, disabled):
        assert re.search(r"^TAP version 13\n1\.\.0 # SKIP .+\nstatus 4$", text, re.MULTILINE), said
    assert not complaints(log), said


@pytest.mark.slow
def test_gates_alone(kbridge: Kbridge, tmp_path: Path) -> None:
    """The module as it is built where a kernel has no user-return notifiers: six are skipped."""
    wanted, program, log = target.find(KERNELS[-1]), built(tmp_path), tmp_path / "console"
    module = tmp_path / "kelevate/kelevate.ko"
    make = ["make", "-C", wanted.kdir, f"M={module.parent}", "CONFIG_USER_RETURN_NOTIFIER="]
    subprocess.run([*make, "modules"], check=True, capture_output=True)
    script = f"""
        rmmod kelevate; insmod {module}; {program}; echo "status $?"
    """
    files = [
        word for file in (*LIBRARIES, program, module) for word in ("--file", f"{file}:{file}")
    ]
    how = ["--kernel", wanted.release, "--timeout", "120", *files]
    done = kbridge(
        *("run", *how, "/bin/busybox", "sh", "-c", script), env=console_log_environment(log)
    )
    said = done.stdout + done.stderr
    assert done.stdout.endswith("status 0\n"), said
    assert done.stdout.count(" # SKIP\n") == 6, said
    assert not complaints(log), said


def test_it_can_fail_and_is_skipped_without_the_module(kbridge: Kbridge, tmp_path: Path) -> None:
    """A kelevate that lets everybody in, and none at all."""
    release, program, log = KERNELS[-1], built(tmp_path), tmp_path / "console"
    script = f"""
        chmod 666 /dev/kelevate; {program}; echo "status $?"
        rmmod kelevate; echo "rmmod $?"; {program}; echo "status $?"
    """
    files = [word for file in (*LIBRARIES, program) for word in ("--file", f"{file}:{file}")]
    how = ["--kernel", release, "--timeout", "120", *files]
    done = kbridge(
        *("run", *how, "/bin/busybox", "sh", "-c", script), env=console_log_environment(log)
    )
    said = done.stdout + done.stderr
    bad = re.findall(r"^not ok \d+ (.*)$", done.stdout, re.MULTILINE)
    assert bad == ["its mode is 0600", "EACCES for another user"], said
    assert "status 1\nrmmod 0\nTAP version 13\n1..0 # SKIP there is no /dev/kelevate" in said, said
    assert done.stdout.endswith("status 4\n"), said
