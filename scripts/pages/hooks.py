# SPDX-License-Identifier: GPL-2.0-only
"""The site's pages that do not lie in docs/: mkdocs calls this (mkdocs.yml, `hooks`).

They are the reference, made from the tables and headers that the programs themselves read; the
README files of other folders; and the sources that pages link to, so that no link leaves the site.
Not for the text of any page.
"""

from __future__ import annotations

import posixpath
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import reference
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]

# files of the repository that are pages: where they stand in the site
READ = {
    "ARCHITECTURE.md": "architecture.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "kernel/README.md": "kelevate.md",
    "samples/README.md": "samples.md",
}
MADE = {
    "reference/commands.md": reference.commands,
    "reference/scons.md": reference.scons,
    "reference/c.md": reference.c_header,
}
# a link's target, or a code block, in which nothing is one
LINK = re.compile(
    r"(?P<fence>^`{3,})[^`\n]*\n.*?^(?P=fence)$"
    r"|(?<=\]\()(?P<path>[^)\s#:]+)(?P<anchor>#[^)\s]*)?(?=\))",
    re.MULTILINE | re.DOTALL,
)
# what a source is shown as, where its suffix is not the name of its language
LANGUAGES = {"h": "c", "j2": "jinja", "mk": "make", "S": "gas", "rs": "rust", "ipynb": "json"}
LEFT_OVER = "How to"


def _tracked(folder: str) -> list[str]:
    """The files of a folder that belong to the project, not what was built there."""
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--", folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:  # no repository, as in an unpacked archive
        return sorted(str(f.relative_to(ROOT)) for f in (ROOT / folder).rglob("*") if f.is_file())
    return sorted(name for name in done.stdout.split("\0") if name)


def _shown(name: str) -> str:
    """A source as a code block; longer fences hold those that have fences themselves."""
    try:
        text = (ROOT / name).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return "No text.\n"
    suffix = PurePosixPath(name).suffix[1:]
    fence = "`" * max(4, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{LANGUAGES.get(suffix, suffix)}\n{text.rstrip()}\n{fence}\n"


def _source_page(target: str) -> str:
    """A file of the repository, or all files of a folder, with the folder's README first."""
    if (ROOT / target).is_file():
        return f"# {target}\n\n{_shown(target)}"
    names = _tracked(target)
    readme = f"{target}/README.md"
    parts = [(ROOT / readme).read_text() if readme in names else f"# {target}\n"]
    for name in names:
        if name != readme:
            parts.append(f"## {name.removeprefix(target + '/')}\n\n{_shown(name)}")
    return "\n".join(parts)


def _origin(page: str) -> str:
    """Where a page of the site has its text from, for links that are relative to that place."""
    for name, shown in READ.items():
        if shown == page:
            return name
    if page.startswith("source/"):
        return page.removeprefix("source/").removesuffix(".md") + "/README.md"
    return f"docs/{page}"


def _place(target: str) -> str:
    """The page of the site that shows a file or folder of the repository."""
    readme = f"{target}/README.md"
    if target in READ or readme in READ:
        return READ.get(target) or READ[readme]
    if target.startswith("docs/"):
        return target.removeprefix("docs/")
    return f"source/{target.removesuffix('/README.md')}.md"


def _relinked(markdown: str, page: str, wanted: set[str]) -> str:
    """The text with links that are right in the site; adds to `wanted` what they lead to."""
    here = posixpath.dirname(_origin(page))

    def link(found: re.Match[str]) -> str:
        if found["fence"]:
            return found[0]
        target = posixpath.normpath(posixpath.join(here, found["path"]))
        if target.startswith("..") or not (ROOT / target).exists():
            return found[0]  # mkdocs says what is wrong with it
        place = _place(target)
        if place.startswith("source/"):
            wanted.add(place)
        return posixpath.relpath(place, posixpath.dirname(page) or ".") + (found["anchor"] or "")

    return LINK.sub(link, markdown)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    texts = {place: (ROOT / name).read_text(encoding="utf-8") for name, place in READ.items()}
    texts |= {place: make() for place, make in MADE.items()}
    left = [*texts, *(file.src_uri for file in files.documentation_pages())]
    read: set[str] = set()
    while left:  # pages, and what they link to, and so on
        page = left.pop()
        read.add(page)
        if page.startswith("source/") and page not in texts:
            texts[page] = _source_page(page.removeprefix("source/").removesuffix(".md"))
        wanted: set[str] = set()
        _relinked(texts.get(page) or (ROOT / "docs" / page).read_text(), page, wanted)
        left.extend(wanted - read)
    for place, text in texts.items():
        file = File.generated(config, place, content=text)
        if place.startswith("source/"):
            file.inclusion = file.inclusion.NOT_IN_NAV
        files.append(file)
    _list_left_overs(files, config)
    return files


def _listed(nav: Any) -> set[str]:
    if isinstance(nav, str):
        return {nav}
    parts = nav.values() if isinstance(nav, Mapping) else nav
    return set().union(*map(_listed, parts))


def _list_left_overs(files: Files, config: MkDocsConfig) -> None:
    """A page that nobody has put into the navigation is found there all the same."""
    found = {f.src_uri for f in files.documentation_pages() if not f.src_uri.startswith("source/")}
    assert config.nav is not None
    for section in config.nav:
        section.get(LEFT_OVER, []).extend(sorted(found - _listed(config.nav)))


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    return _relinked(markdown, page.file.src_uri, set())
