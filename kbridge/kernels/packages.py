# SPDX-License-Identifier: GPL-2.0-only
"""Fetches packages from the distribution's archive by apt, and installs none of them.

Knows nothing of what is in a package: image.py does for kernel images.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kbridge import proc, progress
from kbridge.errors import CommandError, KbridgeError

# What apt says when the fault is the connection, not the archive's content.
_NO_NETWORK = re.compile(
    r"Could not (?:resolve|connect)|Temporary failure|Unable to connect|Network is unreachable"
    r"|Connection (?:failed|timed out|refused)|No route to host"
)


def require_apt(missing: str, hint: str) -> None:
    """Raise KbridgeError that starts with `missing` where there is no apt to fetch with."""
    for tool in ("apt-get", "apt-cache", "dpkg-deb"):
        if not shutil.which(tool):
            raise KbridgeError(f"{missing}, and no {tool} to fetch one with", hint=hint)


def installed_version(package: str) -> str | None:
    """The version of a package that is installed; None where it is not."""
    if not shutil.which("dpkg-query"):
        return None
    query = ["dpkg-query", "--show", "--showformat=${db:Status-Status} ${Version}"]
    shown = proc.run([*query, package], check=False)
    status, _, version = shown.stdout.partition(" ")
    return version if shown.returncode == 0 and status == "installed" else None


def offered_versions(package: str) -> list[str]:
    """The versions that apt's package lists have, newest first."""
    shown = proc.run(["apt-cache", "madison", package], check=False)
    if shown.returncode and shown.stderr.strip():
        raise CommandError(
            "apt cannot read its package lists", stderr=shown.stderr, hint="see apt's words above"
        )
    fields = [line.split("|") for line in shown.stdout.splitlines()]
    return [parts[1].strip() for parts in fields if len(parts) == 3]


def _download_error(problem: CommandError, what: str, wanted: str) -> KbridgeError:
    if _NO_NETWORK.search(problem.stderr):
        hint = "no network, or a proxy is needed (apt takes it from http_proxy): check, repeat"
    elif "404" in problem.stderr:
        hint = "apt's package lists are out of date: apt-get update, then repeat"
    else:
        hint = f"try it by hand: apt-get download {wanted}"
    return CommandError(
        f"cannot fetch {what} {wanted}",
        stderr=problem.stderr,
        returncode=problem.returncode,
        hint=hint,
    )


def download(package: str, version: str | None, folder: Path, *, what: str) -> Path:
    """Fetch a package (None: its newest version) into `folder` and return its file.

    `what` says in errors what the package holds.
    """
    wanted = f"{package}={version}" if version else package
    # apt drops root's rights for the download, to a user that may not enter the folder
    option = ["-o", "APT::Sandbox::User=root"] if os.geteuid() == 0 else []
    try:
        with progress.doing(f"fetching {wanted}"):
            proc.run(["apt-get", *option, "download", wanted], cwd=folder)
    except CommandError as problem:
        raise _download_error(problem, what, wanted) from problem
    fetched = next(iter(folder.glob("*.deb")), None)
    if fetched is None:
        raise KbridgeError(f"apt-get download {wanted} left no package")
    return fetched


@contextmanager
def beside(folder: Path) -> Iterator[Path]:
    """A temporary folder on the file system of `folder`, so that one rename puts it there."""
    try:
        temporary = Path(tempfile.mkdtemp(prefix=".fetch-", dir=folder.parent))
    except OSError as problem:
        raise KbridgeError(f"cannot write in {folder.parent}: {problem.strerror}") from problem
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
