# SPDX-License-Identifier: GPL-2.0-only
"""kbridge containerfile: what it writes, and what it refuses to write."""

from __future__ import annotations

from pathlib import Path

import pytest

from kbridge import cli, options
from kbridge.errors import KbridgeError
from kbridge.verbs import containerfile
from kbridge.verbs.containerfile import ContainerfileRequest
from kbridge.vm import hostroot

RELEASE = "6.1.0-56-amd64"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With sources, and left as the current one."""
    made = tmp_path / "my sources"
    (made / "k").mkdir(parents=True)
    for name in ("app.c", "k/one kmod.c", "k/$(x).c", "-o.c"):
        (made / name).touch()
    monkeypatch.chdir(made)
    monkeypatch.setattr(hostroot, "newest", lambda: RELEASE)
    return made


def test_what_is_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["containerfile", "app.c", "--kmod", "k/one kmod.c", "--base", "localhost/mine:1"]
    assert cli.main(words) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(containerfile.MARK)
    lines = shown.splitlines()
    assert "ARG BASE=localhost/mine:1" in lines
    assert f"ARG KERNEL={RELEASE}" in lines
    build = (
        """RUN kbridge build --kernel "$KERNEL" app.c --kmod 'k/one kmod.c' -o /usr/local/bin/app"""
    )
    assert build in lines
    assert 'ENTRYPOINT ["/usr/local/bin/app"]' in lines
    assert not [line for line in lines if line.startswith(("{", "SPDX"))]
    assert cli.main([*words, "--kernel", "0.1.2-own", "-o", "made/Containerfile"]) == 0
    written = folder / "made/Containerfile"
    assert written.read_text() == shown.replace(RELEASE, "0.1.2-own")
    assert "wheels/" in capsys.readouterr().err
    # again, over its own; the first line is a command that makes the same
    (folder / "wheels").mkdir()
    assert cli.main([*words, "-o", "made/Containerfile"]) == 0
    assert capsys.readouterr().err == ""
    assert written.read_text() == shown


def test_debian_is_the_usual_base(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert folder
    assert cli.main(["containerfile", "app.c", "--kmod", "k/one kmod.c"]) == 0
    (base,) = (one.default for one in options.of_verb("containerfile") if one.name == "base")
    assert f"ARG BASE={base}\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"app": []}, "no app source"),
        ({"kmod": []}, "no kmod source"),
        ({"app": ["no.c"]}, "no.c: no such file"),
        ({"app": ["/etc/passwd"]}, "/etc/passwd: not in this folder"),
        ({"app": ["k/../../app.c"]}, "not in this folder"),
        ({"kmod": ["k/$(x).c"]}, "cannot name this file safely"),
        ({"kmod": ["-o.c"]}, "cannot name this file safely"),
        ({"app": ["k/one kmod.c"]}, "no name for a program"),
        ({"base": "debian\nRUN rm -rf /"}, "not the name of an image"),
        ({"base": ""}, "not the name of an image"),
        ({"kernel": "$(uname -r)"}, "is not a kernel release"),
        ({"kernel": ""}, "is not a kernel release"),
        ({"output": "app.c"}, "not what kbridge writes"),
        ({"output": "k"}, "is a folder"),
    ],
)
def test_what_is_refused(folder: Path, how: dict[str, object], says: str) -> None:
    (folder / "app.c").write_text("int main(void) { return 0; }\n")
    usual = {"base": "debian", "app": ["app.c"], "kmod": ["k/one kmod.c"], **how}
    for name in ("app", "kmod"):
        usual[name] = [Path(one) for one in usual[name]]  # type: ignore[attr-defined]
    if "output" in usual:
        usual["output"] = Path(str(usual["output"]))
    with pytest.raises(KbridgeError) as caught:
        containerfile.write(ContainerfileRequest(**usual))  # type: ignore[arg-type]
    assert says in caught.value.message
    assert caught.value.hint
    assert (folder / "app.c").read_text().startswith("int main")


def test_where_no_kernel_is_here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise KbridgeError("no kernel headers")

    monkeypatch.setattr(hostroot, "newest", none)
    assert folder
    sources = {"app": [Path("app.c")], "kmod": [Path("k/one kmod.c")]}
    with pytest.raises(KbridgeError) as caught:
        containerfile.text(ContainerfileRequest(base="debian", **sources))
    assert "no kernel headers" in caught.value.message
    assert "--kernel RELEASE" in (caught.value.hint or "")
