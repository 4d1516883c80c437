# SPDX-License-Identifier: GPL-2.0-only
"""The documentation as a site: it builds without a warning, its links lead somewhere, nothing of it
comes from another host, and what it quotes is what the sources say.

The tutorial's commands are typed by tests/vm/test_tutorial.py.
"""

from __future__ import annotations

import ast
import functools
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from kbridge import options

ROOT = Path(__file__).resolve().parents[2]
# how a page gets what it cannot be shown without
PARTS = {("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src"), ("source", "src")}
MESSAGE = re.compile(r"kbridge: (?:error|hint|warning): (?P<text>.*)")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make docs` builds."""
    folder = tmp_path_factory.mktemp("docs") / "the site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


class Page(HTMLParser):
    """The places of a page that links may lead to, and where it leads itself."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.places: set[str] = set()
        self.links: list[tuple[str, str, str]] = []
        self.feed(file.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.places.add(value)
            elif name in ("href", "src"):
                self.links.append((tag, name, value or ""))


@functools.cache
def page(file: Path) -> Page:
    return Page(file)


def pages(site: Path) -> list[Path]:
    # 404.html is shown at any address, so its links have no base of their own
    return sorted(file for file in site.rglob("*.html") if file.name != "404.html")


def wrong(site: Path, file: Path, link: str) -> str:
    """What is wrong with a link of a page; nothing, as a rule."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        fine = parts.scheme in ("https", "http") and "." in parts.netloc and " " not in link
        return "" if fine else "no address"
    target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
    if not target.is_relative_to(site.resolve()) and target != file:
        return "outside of the site"
    if not target.is_file():
        return "no such file"
    if parts.fragment and target.suffix == ".html":
        places = page(target).places
        return "" if unquote(parts.fragment) in places else "no such place in the page"
    return ""


def test_links(site: Path) -> None:
    bad = [
        f"{file.relative_to(site)}: {link}: {problem}"
        for file in pages(site)
        for _, _, link in page(file).links
        if (problem := wrong(site, file, link))
    ]
    assert not bad, "\n".join(bad)
    assert sum(len(page(file).links) for file in pages(site)) > 1000


def test_the_check_of_links_finds_what_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "a.html"
    file.write_text('<h1 id="top"></h1>')
    links = {"a.html#top": "", "#top": "", "https://example.org/": "", "a.html#x": "no such place"}
    links |= {"b.html": "no such file", "../a.html": "outside", "https:///x": "no address"}
    for link, problem in links.items():
        said = wrong(tmp_path, file, link)
        assert said.startswith(problem), link
        assert bool(said) == bool(problem), link


def test_nothing_comes_from_another_host(site: Path) -> None:
    for file in [*pages(site), site / "404.html"]:
        for tag, name, link in page(file).links:
            assert (tag, name) not in PARTS or not urlsplit(link).netloc, f"{file.name}: {link}"
    for style in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//", style.read_text()), style


def test_every_page_is_in_the_navigation_once(site: Path) -> None:
    written = re.findall(
        r"^ +- (?:.+: )?(\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE
    )
    assert written
    assert sorted(set(written)) == sorted(written)
    listed = {link for _, _, link in page(site / "index.html").links}
    for file in (ROOT / "docs").rglob("*.md"):
        assert str(file.relative_to(ROOT / "docs").with_suffix(".html")) in listed


def test_the_reference_is_whole(site: Path) -> None:
    commands = (site / "reference/commands.html").read_text()
    for verb in options.VERBS:
        assert f'id="kbridge-{verb.name}"' in commands
        for option in options.of_verb(verb.name):
            assert all(flag in commands for flag in option.flags)
    scons = (site / "reference/scons.html").read_text()
    assert all(f"<code>{option.variable}=</code>" in scons for option in options.of_scons())
    declared = re.findall(r"\b(kb_\w+)\(", (ROOT / "runtime/kbridge.h").read_text())
    shown = page(site / "reference/c.html").places
    assert declared
    assert all(any(name in place for place in shown) for name in declared), shown
    for name in ("elevated", "is_elevated"):
        assert f'id="kbridge.binding.{name}"' in (site / "reference/python.html").read_text()


def python_texts(file: Path) -> Iterator[str]:
    """The strings of a source; what is filled in stands as a line end, which no message has."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.JoinedStr):
            parts = [n.value if isinstance(n, ast.Constant) else "\n" for n in node.values]
            yield "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@functools.cache
def said_by_the_sources() -> str:
    """All strings that could be part of a message, one behind the other."""
    found = [text for file in (ROOT / "kbridge").rglob("*.py") for text in python_texts(file)]
    for file in (ROOT / "runtime").glob("*.c"):
        found += re.findall(r'"((?:[^"\\]|\\.)*)"', file.read_text())
    return "\n".join(found)


def quoted_messages() -> list[str]:
    text = (ROOT / "docs/troubleshooting.md").read_text()
    blocks = "".join(re.findall(r"^```text\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    found = [MESSAGE.fullmatch(line) for line in blocks.splitlines() if line]
    assert all(found), blocks
    return [one["text"] for one in found if one]


def test_quoted_messages_are_real() -> None:
    said = said_by_the_sources()
    messages = quoted_messages()
    assert len(messages) > 40
    for message in messages:
        parts = [part for one in message.split("...") if (part := one.strip(" :;,"))]
        assert parts, f"nothing is quoted: {message}"
        for part in parts:
            assert part in said, f"no source says {part!r} (of: {message})"


def test_links_of_the_readme() -> None:
    for name in ("README.md", "docs/tutorial.md"):
        file = ROOT / name
        links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", file.read_text())
        assert links
        made = {"reference/commands.md"}  # by scripts/pages
        assert [link for link in links if not (file.parent / link).exists()] in ([], sorted(made))
