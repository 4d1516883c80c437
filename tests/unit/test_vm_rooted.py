# SPDX-License-Identifier: GPL-2.0-only
"""--root FOLDER: paths in that root, what PROG is there, and what the guest is given of it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kbridge.errors import KbridgeError, UsageError
from kbridge.verbs import run
from kbridge.vm import rooted, share

LINKS = {  # in the root: what a container has, and what would lead out of it
    "bin": "usr/bin",
    "usr/bin/vi": "/etc/alternatives/vi",
    "etc/alternatives/vi": "../../usr/bin/vim",
    "usr/bin/out": "../../../../../../etc/passwd",
    "usr/bin/loop": "loop",
    "usr/bin/top": "/",
}
FILES = ("usr/bin/vim", "etc/passwd", "usr/bin/a tool")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "a root, of a container"
    for name in FILES:
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text("#!/usr/bin/vim\n")
        (made / name).chmod(0o755)
    for name, text in LINKS.items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).symlink_to(text)
    return made


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("/bin/vim", "/usr/bin/vim"),
        ("/bin/vi", "/usr/bin/vim"),  # by an absolute link, and one with '..'
        ("/bin/out", "/etc/passwd"),  # that root's, not this machine's
        ("/../../etc/passwd", "/etc/passwd"),
        ("/bin/../etc/passwd", "FileNotFoundError"),  # /usr/etc, as the kernel has it
        ("/bin/top/bin/vim", "/usr/bin/vim"),
        ("/bin/a tool", "/usr/bin/a tool"),
        ("/", "/"),
        ("/bin/loop", "OSError"),
        ("/bin/vim/x", "NotADirectoryError"),
        ("/no", "FileNotFoundError"),
    ],
)
def test_paths_stay_in_the_root(root: Path, name: str, expected: str) -> None:
    try:
        found = str(rooted.real(root, name))
    except OSError as problem:
        found = type(problem).__name__
    assert found == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [("/bin/vi", "/bin/vi"), ("vi", "/usr/bin/vi"), ("usr/bin/vi", "/usr/bin/vi")],
)
def test_a_program_is_named_by_its_path_there(root: Path, name: str, expected: str) -> None:
    found = rooted.examine(root, name)
    assert str(found.path) == expected
    assert found.files == (root / "usr/bin/vim",)
    assert found.note is None


@pytest.mark.parametrize(
    ("name", "status", "says"),
    [
        ("emacs", 127, "emacs: not found in"),
        ("", 127, "PROG is empty"),
        ("/bin/emacs", 127, "/bin/emacs in"),
        ("{root}/usr/bin/vim", 127, "did you mean /usr/bin/vim?"),
        ("/bin/loop", 127, "Too many levels"),
        ("{root}/usr/bin/loop", 127, "No such file"),
        ("/bin", 126, "is a folder"),
        ("/etc/data", 126, "not an ELF program"),
        ("/etc/text", 126, "not an ELF program"),
        ("/etc/script", 127, "its interpreter /bin/perl is not in"),
        ("/etc/pipe", 126, "neither a file nor a folder"),
        ("/etc/piped", 127, "its interpreter /etc/pipe is not in"),
    ],
)
def test_what_cannot_be_run_is_said(root: Path, name: str, status: int, says: str) -> None:
    (root / "etc/data").write_text("data")
    os.mkfifo(root / "etc/pipe", 0o755)
    for file, text in (
        ("text", "text"),
        ("script", "#! /bin/perl -w\n"),
        ("piped", "#!/etc/pipe\n"),
    ):
        (root / "etc" / file).write_text(text)
        (root / "etc" / file).chmod(0o755)
    with pytest.raises(KbridgeError) as caught:
        rooted.examine(root, name.format(root=root))
    assert caught.value.status == status
    assert says in f"{caught.value.message} {caught.value.hint}"
    assert caught.value.hint


def compiled(folder: Path, name: str, source: str, *flags: str) -> Path:
    made = folder / name
    made.parent.mkdir(parents=True, exist_ok=True)
    command = ["gcc", "-x", "c", "-", "-o", made, *flags]
    subprocess.run(command, input=source, text=True, cwd=folder, check=True)
    return made


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A program to be damaged, in a root with its loader."""
    made = tmp_path_factory.mktemp("damaged")
    app = compiled(made, "app", "int main(void) { return 0; }")
    (made / "lib64").mkdir()
    shutil.copy("/lib64/ld-linux-x86-64.so.2", made / "lib64")
    return app, app.read_bytes()


def test_libraries_are_those_of_the_root(root: Path) -> None:
    """By the folder beside the program, by ld.so.conf, by an absolute link; not this machine's."""
    shared = ("-shared", "-fPIC", "-nostdlib")
    compiled(root, "opt/lib/libb.so", "int b(void) { return 2; }", *shared)
    compiled(root, "opt/app/libs/liba.so", "int b(void); int a(void) { return b(); }", *shared)
    (root / "usr/lib").mkdir()
    (root / "usr/lib/libc.so.6").symlink_to("/opt/lib/libb.so")
    (root / "etc/ld.so.conf").write_text("include ld.so.conf.d/*.conf\n")
    (root / "etc/ld.so.conf.d").mkdir()
    (root / "etc/ld.so.conf.d/b.conf").write_text("# ours\n/opt/lib # here\n")
    flags = ("-Lopt/app/libs", "-la", "-Wl,-rpath,$ORIGIN/libs,--allow-shlib-undefined")
    app = compiled(root, "opt/app/app", "int a(void); int main(void) { return a(); }", *flags)
    with pytest.raises(KbridgeError) as caught:
        rooted.examine(root, "/opt/app/app")
    assert "its interpreter /lib64/ld-linux-x86-64.so.2 is not in" in caught.value.message
    loader = root / "lib64/ld-linux-x86-64.so.2"
    loader.parent.mkdir()
    shutil.copy("/lib64/ld-linux-x86-64.so.2", loader)
    found = rooted.examine(root, "/opt/app/app")
    wanted = [app, loader, root / "opt/app/libs/liba.so", root / "opt/lib/libb.so"]
    # libc.so.6 is the very file that libb.so is
    assert sorted(found.files) == sorted(wanted)


@settings(max_examples=50)
@given(place=st.integers(0, 700), byte=st.integers(0, 255))
def test_damaged_programs_leave_no_traceback(
    damaged: tuple[Path, bytes], place: int, byte: int
) -> None:
    file, content = damaged
    file.write_bytes(content[:place] + bytes([byte]) + content[place + 1 :])
    with contextlib.suppress(KbridgeError):
        rooted.examine(file.parent, "/app")


@pytest.mark.parametrize(
    ("name", "says"),
    [("hosts", "no such folder"), ("", "no such folder"), ("file", "not a folder")],
)
def test_what_is_no_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(UsageError) as caught:
        rooted.folder(name)
    assert f"--root {name}: {says}" in caught.value.message
    assert caught.value.hint


def test_a_root_without_permission(root: Path, tmp_path: Path) -> None:
    """Also for root, who has to be without the right to pass permissions by."""
    rights = "-dac_override,-dac_read_search"
    drop = ["setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}"]
    command = [*(drop if os.geteuid() == 0 else []), sys.executable, "-m", "kbridge", "run"]
    closed = tmp_path / "closed"
    closed.mkdir()
    shut = root / "usr/bin"
    for folder, where in ((closed, closed), (closed, closed / "inside"), (shut, root)):
        folder.chmod(0)
        words = [*command, "--root", where, "/usr/bin/vim"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        folder.chmod(0o755)
        assert done.returncode == 125, done.stderr
        assert "Permission denied\n" in done.stderr
        assert "hint: run kbridge as the folder's owner" in done.stderr
        assert "Traceback" not in done.stderr


def test_the_environment_is_for_another_root() -> None:
    passed = {"PATH": "/here", "HOME": "/home/me", "LD_LIBRARY_PATH": "/x", "PYTHONPATH": "/y"}
    kept = share.variables({**passed, "TERM": "dumb", "KBRIDGE_PARAMS": "a=1", "PWD": "/here"})
    assert kept == {
        "HOME": "/root",
        "PATH": ":".join(rooted.PATH),
        "TERM": "dumb",
        "KBRIDGE_PARAMS": "a=1",
        "PWD": "/",
    }


def test_the_folder_is_shared_read_only() -> None:
    words = share.options(Path("/a,b c"))
    assert words[1].startswith("local,id=kbridge-root,path=/a,,b c,")
    assert "readonly=on" in words[1].split(",")
    assert PurePosixPath(share.START[0].partition("=")[2]).is_absolute()


def test_files_are_those_of_the_root(root: Path) -> None:
    request = run.RunRequest(program="/bin/vi", root=str(root), files=["a:/b"])
    with pytest.raises(KbridgeError) as caught:
        run.run(request)
    assert "--file" in caught.value.message
    assert caught.value.status == run.OWN_FAILURE
