# SPDX-License-Identifier: GPL-2.0-only
"""Runs the program on this machine, where its kernel is the running one and has kelevate.

Not for the virtual machine (machine.py).
"""

from __future__ import annotations

import os
import platform
import stat
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from kbridge import elevation, libkernel, log, paths, runtime
from kbridge.errors import KbridgeError
from kbridge.symbols import kallsyms

DEVICE = Path(elevation.DEVICE)
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def possible(release: str, build_id: str | None) -> bool:
    """Whether a program for that kernel can run here.  `build_id` None: any of that release."""
    if platform.release() != release or os.geteuid() != 0:
        return False
    if build_id is not None and kallsyms.running_build_id() != build_id:
        return False
    try:
        os.close(os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _check_folder(folder: Path) -> None:
    """Raise KbridgeError unless only root can put anything into `folder`."""
    status = folder.lstat()
    mode = stat.S_IMODE(status.st_mode)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != 0 or mode != 0o700:
        raise KbridgeError(
            f"{folder} is not root's own folder with mode 0700: its libraries run as root",
            hint=f"find out who made it, remove it, and repeat: ls -ld {folder}",
        )


class KernelLog:
    """What the kernel says from now on; nothing where that cannot be read."""

    def __init__(self) -> None:
        try:
            self._fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.lseek(self._fd, 0, os.SEEK_END)
        except OSError:
            self._fd = -1

    def lines(self) -> list[str]:
        """Its messages.  A record is PRIORITY,NUMBER,TIME,FLAGS;TEXT and more lines."""
        found: list[str] = []
        while self._fd >= 0:
            try:
                record = os.read(self._fd, 8192)
            except BrokenPipeError:
                continue  # the oldest were overwritten
            except OSError:
                break
            found.append(record.decode("utf-8", "replace").partition(";")[2].partition("\n")[0])
        return found

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def prepare(folder: Path = Path(runtime.RUN_FOLDER)) -> None:
    """Make the folder of this boot with libkernel.so and libkbridge.so, where it is not there."""
    folder.mkdir(mode=0o700, exist_ok=True)
    _check_folder(folder)
    library = runtime.library().read_bytes()
    kept = folder / "libkbridge.so"
    if not kept.is_file() or kept.read_bytes() != library:
        paths.write_atomically(kept, library, mode=0o755)
    boot, stamp = _BOOT_ID.read_text(), folder / "boot_id"
    if not stamp.is_file() or stamp.read_text() != boot:
        libkernel.write_boot(kallsyms.running(), folder / libkernel.SONAME)
        paths.write_atomically(stamp, boot)


def _wait(process: subprocess.Popen[bytes], seconds: float | None) -> int | None:
    with process:
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            if process.poll() is None:
                process.kill()


def run(
    path: Path,
    argv: Sequence[str],
    environment: Mapping[str, str],
    seconds: float | None,
    plan: elevation.Plan | None = None,
    count: bool = False,
) -> int | None:
    """Run the program; its wait status (negative: the signal), None when the time was up.

    `plan`: in ring 0; `count`: say where timer interrupts found it.  Raises OSError when it does
    not start, KbridgeError when it may not be elevated.
    """
    if plan is None:
        process = subprocess.Popen([*argv], executable=path, env=dict(environment))
        return _wait(process, seconds)
    device = elevation.open_device()

    def start() -> None:
        elevation.elevate_with_exec(device, plan)

    try:
        process = subprocess.Popen(
            [*argv],
            executable=path,
            env=dict(environment),
            preexec_fn=start,  # noqa: PLW1509, there are no threads here
        )
        status = _wait(process, seconds)
        if count:
            log.info(str(elevation.counts(device)))
        return status
    except subprocess.SubprocessError as problem:  # preexec_fn failed: Python says no more of it
        raise elevation.may_not("the kernel log says more: dmesg | grep kelevate") from problem
    finally:
        os.close(device)
