# SPDX-License-Identifier: GPL-2.0-only
"""kbridge kernels on made-up machines: what is found, what is missing, what is said."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kbridge import cli
from kbridge.errors import KbridgeError
from kbridge.kernels import compiler, container, survey, target
from kbridge.kernels.compiler import Compiler
from kbridge.kernels.survey import Found, Survey
from kbridge.kernels.target import KernelTarget
from kbridge.verbs import kernels as verb

GCC = 'CONFIG_CC_VERSION_TEXT="gcc-{major} (Debian {major}.2.0-14) {major}.2.0"\n'


@dataclass
class Machine:
    """A machine without kernels; methods add to it."""

    root: Path
    headers: list[KernelTarget] = field(default_factory=list)

    def add_headers(self, release: str, major: int = 12) -> None:
        kdir = self.root / f"src/linux-headers-{release}"
        (kdir / "include/generated").mkdir(parents=True)
        (kdir / "include/generated/utsrelease.h").write_text(f'#define UTS_RELEASE "{release}"\n')
        (kdir / "Makefile").touch()
        (kdir / ".config").write_text(GCC.format(major=major))
        self.headers.append(KernelTarget(release, kdir))

    def add_file(self, name: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, temporary_cache: Path) -> Machine:
    """It runs 5.10.0-run; of compilers it has gcc-12."""
    assert not temporary_cache.exists()
    made = Machine(tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/gcc-12").write_text("#!/bin/sh\n")
    (tmp_path / "bin/gcc-12").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("KDIR", raising=False)
    monkeypatch.setattr(target, "HEADER_ROOTS", (f"{tmp_path}/src/linux-headers-{{release}}",))
    monkeypatch.setattr(target, "installed", lambda: made.headers)
    monkeypatch.setattr("platform.release", lambda: "5.10.0-run")
    monkeypatch.setattr(container, "mark", lambda: "")
    monkeypatch.setattr(survey, "BOOT", tmp_path / "boot")
    monkeypatch.setattr(survey, "MODULES", tmp_path / "modules")
    return made


def kernels_of(machine: Machine) -> dict[str, Found]:
    assert machine
    return {one.release: one for one in survey.survey().kernels}


def test_what_is_found(machine: Machine) -> None:
    machine.add_headers("5.9.0-a")
    machine.add_headers("5.11.0-b")
    machine.add_file("boot/vmlinuz-5.2.0-c")
    machine.add_file("modules/5.3.0-d/kernel/x.ko")
    machine.add_file("modules/5.4.0-links/build")  # as header packages leave it
    machine.add_file("modules/extra/kernel/x.ko")  # no release
    machine.add_file("cache/images/5.11.0-b/boot/vmlinuz-5.11.0-b")
    found = kernels_of(machine)
    assert list(found) == ["5.2.0-c", "5.3.0-d", "5.9.0-a", "5.11.0-b"]
    newest = found["5.11.0-b"]
    assert (newest.default, newest.image_place, newest.linkable) == ("newest", "cache", True)
    assert newest.image == machine.root / "cache/images/5.11.0-b/boot/vmlinuz-5.11.0-b"
    assert newest.compiler == Compiler("gcc", "12.2.0")
    assert (newest.compiler_installed, newest.symbols_cached) == (True, False)
    assert (found["5.9.0-a"].image, found["5.9.0-a"].linkable) == (None, True)
    assert (found["5.2.0-c"].headers, found["5.2.0-c"].linkable) == (None, False)
    assert [one for one in found.values() if one.running or (one.default and one != newest)] == []


def test_the_running_kernel_is_the_default(machine: Machine) -> None:
    machine.add_headers("5.10.0-run")
    machine.add_headers("5.11.0-b")
    found = kernels_of(machine)
    assert (found["5.10.0-run"].default, found["5.10.0-run"].running) == ("running", True)
    assert (found["5.11.0-b"].default, found["5.11.0-b"].running) == ("", False)


def test_in_a_container_the_running_kernel_is_not_asked(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.add_headers("5.10.0-run")
    machine.add_headers("5.11.0-b")
    monkeypatch.setattr(container, "mark", lambda: "/run/.containerenv")
    found = kernels_of(machine)
    assert (found["5.11.0-b"].default, found["5.10.0-run"].default) == ("newest", "")
    assert target.find("5.10.0-run").release == "5.10.0-run"
    said = capsys.readouterr().err
    assert "a container (/run/.containerenv), so uname -r (5.10.0-run) is not asked" in said
    machine.headers.clear()
    with pytest.raises(KbridgeError) as caught:
        target.find()
    assert "linux-headers-RELEASE" in (caught.value.hint or "")


@pytest.mark.parametrize("name", ["run/.containerenv", ".dockerenv", "run/systemd/container"])
def test_what_marks_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert f"/{name}" in container.MARKS
    mark = tmp_path / name
    monkeypatch.setattr(container, "MARKS", [str(mark)])
    monkeypatch.delenv("container", raising=False)
    assert not container.mark()
    monkeypatch.setenv("container", "podman")
    assert container.mark() == "$container"
    monkeypatch.delenv("container")
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()
    assert container.mark() == str(mark)


def test_kdir_is_the_default(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.add_headers("5.11.0-b")
    machine.add_headers("5.7.0-own")
    own = machine.headers.pop()  # a tree that is installed nowhere
    monkeypatch.setenv("KDIR", str(own.kdir))
    found = kernels_of(machine)
    assert (found["5.7.0-own"].default, found["5.7.0-own"].headers) == ("KDIR", own.kdir)
    monkeypatch.setenv("KDIR", "/nowhere")
    shown = verb.text(survey.survey())
    assert "no default: /nowhere: no such kernel header folder" in shown


def test_a_compiler_of_another_version_is_not_the_kernels(machine: Machine) -> None:
    machine.add_headers("5.11.0-b", major=13)
    plain = machine.root / "bin/gcc"
    plain.write_text("#!/bin/sh\necho 'gcc (Debian 12.2.0-14) 12.2.0'\n")
    plain.chmod(0o755)
    found = kernels_of(machine)["5.11.0-b"]
    assert (found.compiler_installed, found.compiler_package) == (False, "gcc-13")
    assert not found.linkable
    plain.write_text("#!/bin/sh\necho 'gcc (Debian 13.1.0-14) 13.1.0'\n")
    assert kernels_of(machine)["5.11.0-b"].linkable
    assert compiler.of_kernel(machine.headers[0]) == found.compiler


@pytest.mark.parametrize(
    ("headers", "files", "hint"),
    [
        ((), (), "linux-headers-cloud-amd64"),
        ((), ("boot/vmlinuz-5.2.0-c", "boot/vmlinuz-5.11.0-b"), "linux-headers-5.11.0-b"),
        ((), ("boot/vmlinuz-5.10.0-run", "boot/vmlinuz-5.11.0-b"), "linux-headers-5.10.0-run"),
        (("5.9.0-a",), ("boot/vmlinuz-5.11.0-b",), "gcc-13"),
    ],
)
def test_none_to_link_against(
    machine: Machine,
    headers: tuple[str, ...],
    files: tuple[str, ...],
    hint: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for release in headers:
        machine.add_headers(release, major=13)
    for name in files:
        machine.add_file(name)
    for words in (["kernels"], ["kernels", "--json"]):
        assert cli.main(words) == 1
        out, err = capsys.readouterr()
        assert err.splitlines() == [
            "kbridge: error: no kernel here can be linked against",
            f"kbridge: hint: install what is missing: apt-get install {hint}",
        ]
        assert out
    assert len(json.loads(out)["kernels"]) == len(headers) + len(files)


def test_text() -> None:
    gcc = Compiler("gcc", "12.2.0")
    kernels = [
        Found("5.2.0-c"),
        Found("5.9.0-a", Path("/src/5.9.0-a/build"), None, "", gcc, compiler_installed=False),
        Found(
            release="5.11.0-b",
            headers=Path("/own"),
            image=Path("/boot/vmlinuz-5.11.0-b"),
            image_place="boot",
            compiler=gcc,
            compiler_installed=True,
            symbols_cached=True,
            default="KDIR",
            running=True,
        ),
    ]
    assert verb.text(Survey(kernels, "5.11.0-b")).splitlines() == [
        "release (R)  headers       image    built with       symbols  default",
        "5.2.0-c      missing       missing  ?                not yet",
        "5.9.0-a      /src/R/build  missing  gcc 12, missing  not yet",
        "5.11.0-b     /own          boot     gcc 12.2.0       cached   KDIR, runs now",
        "",
        "missing:",
        "  apt-get install linux-headers-5.2.0-c: to link against 5.2.0-c",
        "  apt-get install gcc-12: the compiler that built 5.9.0-a",
        "",
        "fetched by kbridge when it needs them:",
        "  linux-image-5.2.0-c",
        "  linux-image-5.9.0-a",
    ]
    other = verb.text(Survey(kernels[2:], "5.2.0-x"))
    assert "running now: 5.2.0-x, of which nothing is installed here" not in other
    alone = verb.text(Survey(kernels[:1], "5.2.0-x"))
    assert "running now: 5.2.0-x, of which nothing is installed here" in alone


def test_a_package_is_named_once() -> None:
    gcc = Compiler("gcc", "12.2.0")
    kernels = [Found(one, Path("/own"), compiler=gcc, compiler_installed=False) for one in "ab"]
    shown = verb.text(Survey(kernels, "a"))
    assert shown.count("apt-get install gcc-12: the compiler that built a, b\n") == 1
    assert shown.count("gcc-12") == 1


def test_lines_are_short() -> None:
    release = "6.1.0-" + "long" * 30
    shown = verb.text(Survey([Found(release, Path("/usr/src") / release)], release))
    table, _, instructions = shown.partition("\n\n")
    assert max(map(len, table.splitlines())) <= verb.COLUMNS
    assert instructions.count(release) == 1  # what is to be typed is never cut


def test_json_has_what_the_table_has() -> None:
    found = verb.as_dict(Survey([Found("5.2.0-c")], "5.2.0-x"))
    assert json.loads(json.dumps(found)) == found
    assert (found["running"], found["kernels"][0]["headers"]) == ("5.2.0-x", None)
    assert [(one["package"], one["by_itself"]) for one in found["missing"]] == [
        ("linux-headers-5.2.0-c", False),
        ("linux-image-5.2.0-c", True),
    ]


def test_what_a_mistyped_release_is_near_to() -> None:
    known = ["6.1.0-56-amd64", "6.1.0-56-cloud-amd64", "6.12.117+deb12-cloud-amd64"]
    assert target.meant("6.1.0-56-clod-amd64", known).startswith(
        "did you mean 6.1.0-56-cloud-amd64"
    )
    assert "6.12.117+deb12-cloud-amd64" in target.meant("6.12", known)
    assert target.meant("5.10.0-x", known) == ""
    assert target.meant(known[0], known) == ""
