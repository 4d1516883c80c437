# SPDX-License-Identifier: GPL-2.0-only
"""Which variables the program gets."""

from __future__ import annotations

import pytest

from kbridge.vm.environment import filtered, passes


def test_what_a_program_may_need_passes() -> None:
    given = {"PATH": "/bin", "LC_ALL": "C", "KB_X": "1", "TZ": "UTC", "SSH_AUTH_SOCK": "/s"}
    given |= {"KBRIDGE_PARAMS": "size=1", "KBRIDGE_CACHE": "/c"}
    expected = {"PATH": "/bin", "LC_ALL": "C", "KB_X": "1", "TZ": "UTC", "PWD": "/here"}
    expected["KBRIDGE_PARAMS"] = "size=1"
    assert filtered(given | {"PWD": "/elsewhere"}, "/here") == expected


@pytest.mark.parametrize(
    "name",
    [
        "DBUS_SESSION_BUS_ADDRESS",
        "SSH_AUTH_SOCK",
        "GPG_AGENT_INFO",
        "DISPLAY",
        "WAYLAND_DISPLAY",
        "XDG_RUNTIME_DIR",
        "AWS_SECRET_ACCESS_KEY",
        "GITHUB_TOKEN",
        "TMPDIR",
        "KBRIDGE_CACHE",
        "http_proxy",
    ],
)
def test_what_belongs_to_this_machine_does_not(name: str) -> None:
    assert not passes(name)
