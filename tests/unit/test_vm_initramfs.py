# SPDX-License-Identifier: GPL-2.0-only
"""What is packed lies where it should, as the cpio program reads it back."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import pytest

from kbridge.errors import KbridgeError
from kbridge.vm import contents, initramfs


def unpacked(tree: initramfs.Tree, folder: Path) -> Path:
    stream = io.BytesIO()
    initramfs.pack(tree, stream)
    root = folder / "root"
    root.mkdir()
    # two archives, one behind the other, as the kernel takes them
    for part in stream.getvalue().split(b"TRAILER!!!")[:-1]:
        data = part.lstrip(b"\0") + b"TRAILER!!!" + bytes(512)
        subprocess.run(
            ["cpio", "-idm", "--quiet", "--no-absolute-filenames"], input=data, cwd=root, check=True
        )
    return root


def test_a_tree(tmp_path: Path) -> None:
    host = tmp_path / "host"
    (host / "sub").mkdir(parents=True)
    (host / "sub/file").write_text("one")
    (host / "sub/file").chmod(0o750)
    (host / "link").symlink_to("/nowhere")
    tree = initramfs.Tree()
    tree.add_tree("/data/in put", host)
    tree.add_file("/etc/alone", host / "sub/file")
    tree.add_folder("/tmp", 0o1777)
    root = unpacked(tree, tmp_path)
    assert (root / "data/in put/sub/file").read_text() == "one"
    assert (root / "data/in put/sub/file").stat().st_mode & 0o777 == 0o750
    assert (root / "data/in put/link").readlink() == Path("/nowhere")
    assert (root / "etc/alone").read_text() == "one"
    assert not (root / "etc/alone").is_symlink()
    assert (root / "tmp").stat().st_mode & 0o7777 == 0o1777


def test_symlinks_on_the_way_are_kept(tmp_path: Path) -> None:
    real = tmp_path / "versions" / "2" / "bin"
    real.mkdir(parents=True)
    (real / "tool-2.1").write_text("x")
    (real / "tool").symlink_to("tool-2.1")
    (tmp_path / "current").symlink_to("nothing/../versions/2")
    (tmp_path / "nothing").mkdir()
    tree = initramfs.Tree()
    tree.add_same(tmp_path / "current/bin/tool")
    base = str(tmp_path)
    assert tree.links[f"{base}/current"] == "nothing/../versions/2"
    assert tree.links[f"{base}/versions/2/bin/tool"] == "tool-2.1"
    assert tree.files == {f"{base}/versions/2/bin/tool-2.1": real / "tool-2.1"}
    assert f"{base}/nothing" in tree.folders  # or the guest could not walk the link's text


def test_nothing_is_placed_through_a_link_of_the_host(tmp_path: Path) -> None:
    """A link in the tree leads to a place in the guest, never to one of this machine."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "file").write_text("x")
    tree = initramfs.Tree()
    tree.add_link("/lib", str(outside))
    tree.add_file("/lib/sub/file", tmp_path / "file")
    tree.add_folder("/lib")
    assert list(tree.files) == [f"{outside}/sub/file"]
    root = unpacked(tree, tmp_path)
    assert (root / str(outside)[1:] / "sub/file").read_text() == "x"
    assert not list(outside.iterdir())


def test_two_things_at_one_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    tree = initramfs.Tree()
    tree.add_file("/a/b", tmp_path / "file")
    for add in (
        lambda: tree.add_folder("/a/b"),
        lambda: tree.add_file("/a/b/c", tmp_path / "file"),
        lambda: tree.add_file("/a", tmp_path / "file"),
        lambda: tree.add_link("/a", "b"),
    ):
        with pytest.raises(KbridgeError, match="two different things"):
            add()


def test_links_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    tree = initramfs.Tree()
    tree.add_link("/a", "/b")
    tree.add_link("/b", "a")
    with pytest.raises(KbridgeError, match="too many symlinks"):
        tree.add_file("/a/file", tmp_path / "file")


@pytest.mark.parametrize("guest", ["relative", "/", "", "/a/../b", "/proc/x", "/sys", "/dev/x"])
def test_no_place_in_the_guest(tmp_path: Path, guest: str) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(KbridgeError):
        initramfs.Tree().add_file(guest, tmp_path / "file")


@pytest.mark.parametrize("word", ["nocolon", ":/guest", "host:"])
def test_file_words(word: str, tmp_path: Path) -> None:
    program = contents.Program(tmp_path / "file", (), None)
    with pytest.raises(KbridgeError, match="HOST:GUEST"):
        contents.program_tree(program, [word])


def test_what_does_not_fit(tmp_path: Path) -> None:
    big = tmp_path / "big"
    with big.open("wb") as stream:
        stream.truncate(300 << 20)
    tree = initramfs.Tree()
    tree.add_file("/big", big)
    with pytest.raises(KbridgeError, match="do not fit") as caught:
        contents.check_memory(tree, 512)
    assert caught.value.hint == "give it more: --memory 728"
    contents.check_memory(tree, 728)
    with big.open("wb") as stream:
        stream.truncate(1 << 32)
    with pytest.raises(KbridgeError, match="below 4 GiB"):
        tree.add_file("/bigger", big)
