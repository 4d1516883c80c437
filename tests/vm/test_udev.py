# SPDX-License-Identifier: GPL-2.0-only
"""The udev rule of kelevate's device, read by a real udevd in the guest.

What logind does with the tag uaccess is not tried: the guest has no seats.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from conftest import Kbridge
from guest_shell import console_log_environment
from kernel_log import complaints

from kbridge.kernels import target

RULE = Path(__file__).resolve().parents[2] / "kernel/kelevate/72-kelevate.rules"
# as somebody may have it who wants a virtual machine's and other devices for all
LOOSE = 'SUBSYSTEM=="misc", MODE="0666", GROUP="users", TAG+="uaccess"\n'
UDEVADM = "/bin/udevadm"  # systemd-udevd is the same program


def libraries(program: str) -> list[str]:
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return [word for word in listed.split() if word.startswith("/")]


def test_it_keeps_the_device_for_root(kbridge: Kbridge, tmp_path: Path) -> None:
    rules, log = tmp_path / "rules.d", tmp_path / "console"
    rules.mkdir()
    (rules / "70-loose.rules").write_text(LOOSE)
    shutil.copy(RULE, tmp_path / RULE.name)
    look = """
        udevadm trigger --action=add /sys/class/misc/kelevate; udevadm settle --timeout=20
        stat -c '%a %U %G' /dev/kelevate; udevadm info --query=property /dev/kelevate | grep TAGS
    """
    script = f"""
        mkdir -p /run/udev; echo users:x:100: >> /etc/group
        stat -c '%a %u %g' /dev/kelevate
        /sbin/systemd-udevd --daemon
        echo == loose; {look}
        cp /{RULE.name} /etc/udev/rules.d/; udevadm control --reload
        echo == ours; {look}
        echo == test; udevadm test --action=add /sys/class/misc/kelevate 2>&1 | grep -F {RULE.name}
    """
    files = [f"{UDEVADM}:/bin/udevadm", f"{UDEVADM}:/sbin/systemd-udevd"]
    files += [f"{library}:{library}" for library in libraries(UDEVADM)]
    files += [f"{rules}:/etc/udev/rules.d", f"{RULE}:/{RULE.name}"]
    share = [word for pair in files for word in ("--file", pair)]
    how = ["--kernel", target.installed()[-1].release, "--timeout", "120", *share]
    done = kbridge(
        *("run", *how, "/bin/busybox", "sh", "-c", script), env=console_log_environment(log)
    )
    said = done.stdout + done.stderr
    assert done.stdout.startswith("600 0 0\n"), said
    loose, _, rest = done.stdout.partition("== loose\n")[2].partition("== ours\n")
    ours, _, test = rest.partition("== test\n")
    assert loose.splitlines()[0].split()[::2] == ["666", "users"], said
    assert ":uaccess:" in loose, said
    assert ours.splitlines()[0] == "600 root root", said
    assert "CURRENT_TAGS=:uaccess:" not in ours, said
    # what udevd says of the rule's line: three settings, and nothing that it does not know
    told = [line.partition(f"{RULE.name}:")[2].split() for line in test.splitlines()]
    assert [words[1:] for words in told if words] == [
        ["OWNER", "0"],
        ["GROUP", "0"],
        ["MODE", "0600"],
    ], said
    assert not complaints(log), said
