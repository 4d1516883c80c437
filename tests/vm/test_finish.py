# SPDX-License-Identifier: GPL-2.0-only
"""What the kernel has to finish of a kmod is right at run time, and at its end nothing crashes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import Kbridge
from guest_shell import LIBRARIES, Guest, build, console_log_environment
from kernel_log import complaints

from kbridge import options
from kbridge.kernels import target

PROGRAMS = Path(__file__).parent / "programs"
KERNELS = [kernel.release for kernel in target.installed()] or ["none installed"]
KMODS = [PROGRAMS / f"finish_{name}" for name in ("kmod.c", "export_kmod.c", "asm_kmod.S")]
PARAMS = 'size=77 finish.flag=1 list=10,20,30 finish.label="two words" other.label=x'


def line_of(text: str) -> int:
    source = (PROGRAMS / "finish_kmod.c").read_text().splitlines()
    return next(number for number, line in enumerate(source, 1) if text in line)


@pytest.mark.parametrize("release", KERNELS)
def test_everything_is_finished(kbridge: Kbridge, tmp_path: Path, release: str) -> None:
    """Parameters, static calls, tracepoints, SRCU, per-CPU data, threads, timers, BUG and WARN."""
    commands: dict[str, Path] = {}
    for code in options.CODE_MODELS:
        out = tmp_path / code / "finish"
        program = build(kbridge, PROGRAMS / "finish.c", KMODS, out, release, "--code", code)
        lines = ("finish", "finish outlive", "finish bug", "finish traced")
        commands |= {f"{code}: {line}": program for line in lines}
    app, kmod = PROGRAMS / "forgotten.c", PROGRAMS / "forgotten_kmod.c"
    commands["forgotten"] = build(kbridge, app, kmod, tmp_path / "forgotten", release)
    app, kmod = PROGRAMS / "device.c", PROGRAMS / "device_kmod.c"
    commands["device"] = build(kbridge, app, kmod, tmp_path / "device", release)
    log = tmp_path / "console"
    said = Guest(kbridge, release).run(commands, log, {"KBRIDGE_PARAMS": PARAMS})
    assert set(said) == set(commands)
    for line, text in said.items():
        assert "FAIL" not in text, f"{line}:\n{text}"
        status = "status 139" if line.endswith("bug") else "status 0"
        assert text.rstrip().endswith(status), f"{line}:\n{text}"
    assert all(said[f"{code}: finish"].count("ok ") == 37 for code in options.CODE_MODELS)
    _check_log(log)


def _check_log(log: Path) -> None:
    text = log.read_text(errors="replace")
    models = len(options.CODE_MODELS)
    warning = f"finish_kmod.c:{line_of('return WARN_ON_ONCE')} warn_here+"
    assert text.count(warning) == models
    bug = f"finish_kmod.c:{line_of('BUG_ON(line')}!"
    assert len(re.findall(rf"kernel BUG at .*{bug}", text)) == 2 * models  # a child's, its own
    assert text.count("finish_kmod: exit, thread made") == models * 6
    assert text.count("kb:forgotten: the kernel may call it, and it has no module_exit()") == 2
    assert re.findall(r"device_kmod: exit after (\d) releases, root opened", text) == ["1", "2"]
    assert text.count("kb:device: the kernel still uses it") == 1
    unexpected = complaints(log, expected=[warning, bug])
    assert not unexpected, "\n".join(unexpected)


def test_a_parameter_that_does_not_take_its_value(kbridge: Kbridge, tmp_path: Path) -> None:
    program = build(
        kbridge, PROGRAMS / "finish.c", KMODS, tmp_path / "finish", target.find().release
    )
    log = tmp_path / "console"
    env = {**console_log_environment(log), "KBRIDGE_PARAMS": "size=many"}
    done = kbridge("run", "--timeout", "120", program, env=env)
    assert done.returncode == 125
    assert "finish: cannot load its kernel part: Invalid argument" in done.stderr
    assert "KBRIDGE_PARAMS" in done.stderr
    text = log.read_text(errors="replace")
    assert "`many' invalid for parameter `size'" in text
    assert "finish_kmod: exit" not in text
    assert not complaints(log)


def test_bug_is_told_with_its_line(kbridge: Kbridge, tmp_path: Path) -> None:
    program = build(
        kbridge, PROGRAMS / "finish.c", KMODS, tmp_path / "finish", target.find().release
    )
    done = kbridge("run", "--timeout", "120", program, "bug")
    assert done.returncode == 139
    told = rf"kernel BUG at .*finish_kmod.c:{line_of('BUG_ON(line')}! in bug_here\+"
    assert re.search(told, done.stderr)


@pytest.mark.parametrize(("name", "status"), [("device", 0), ("forgotten", 1)])
def test_unloading_kelevate(kbridge: Kbridge, tmp_path: Path, name: str, status: int) -> None:
    """Possible when every image is gone; one that stays in memory keeps it."""
    app, kmod = PROGRAMS / f"{name}.c", PROGRAMS / f"{name}_kmod.c"
    release = target.find().release
    program = build(kbridge, app, kmod, tmp_path / name, release)
    # what was freed late takes its time
    shell = f"{program} && /bin/busybox sleep 1; /bin/busybox rmmod kelevate; echo status $?"
    files = [word for file in (*LIBRARIES, program) for word in ("--file", f"{file}:{file}")]
    log = tmp_path / "console"
    how = ["--kernel", release, "--timeout", "120", *files]
    done = kbridge("run", *how, "/bin/busybox", "sh", "-c", shell, env=console_log_environment(log))
    assert f"status {status}\n" in done.stdout, done.stdout + done.stderr
    assert "FAIL" not in done.stdout
    assert not complaints(log)
