# SPDX-License-Identifier: GPL-2.0-only
"""The reference as Markdown: from the table of options and from the C header.

Python's part is mkdocstrings' (docs/reference/python.md).
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from kbridge import options

ROOT = Path(__file__).resolve().parents[2]
HEADER = "runtime/kbridge.h"


def _cell(text: str) -> str:
    """Words for a cell of a table; names of files and things in angle brackets stay as they are."""
    return html.escape(text, quote=False).replace("|", "\\|")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _code(words: str) -> str:
    return f"`{words}`" if words else ""


def _values(option: options.Option) -> str:
    """What it takes, and what it is where nobody says it."""
    told = [" ".join(_code(choice) for choice in option.choices)] if option.choices else []
    if option.required:
        told.append("required")
    if option.default is not None:
        told.append(f"default {_code(str(option.default))}")
    return "; ".join(told)


def _flags(option: options.Option) -> str:
    value = options.value_of(option)
    return "<br>".join(_code(f"{flag} {value}".strip()) for flag in option.flags)


def _options_table(verb: str) -> str:
    rows = [
        (_flags(option), _cell(option.help), _values(option)) for option in options.of_verb(verb)
    ]
    return _table(("option", "what it does", "values"), rows)


def _statuses(verb: str) -> str:
    rows = [(_code(one.status), _cell(one.meaning)) for one in options.statuses_of(verb)]
    return _table(("status", "meaning"), rows)


def _verb(verb: options.Verb) -> str:
    words = [f"kbridge {verb.name}", *options.synopsis(verb)]
    parts = [f"### kbridge {verb.name}", _cell(options.sentence(verb.help))]
    parts.append(f"```text\n{' '.join(words)}\n```")
    parts.extend(_cell(paragraph) for paragraph in verb.more)
    if verb.arguments:
        rows = [(_code(one.metavar), _cell(one.help)) for one in verb.arguments]
        parts.append(_table(("word", "what it is"), rows))
    parts.append(_options_table(verb.name))
    examples = "\n".join(f"# {one.what}\n{one.line}" for one in verb.examples)
    parts.append(f"```sh\n{examples}\n```")
    parts.append(_statuses(verb.name))
    return "\n\n".join(parts)


def commands() -> str:
    """Every verb of the command line."""
    parts = [
        "# Commands",
        "Made from the table that the command itself reads (`kbridge/options.py`); "
        "`kbridge VERB --help` says the same.",
        _options_table(options.TOP),
    ]
    for group, title in options.GROUPS.items():
        verbs = [verb for verb in options.VERBS if verb.group == group]
        if verbs:
            parts += [f"## {title}", *map(_verb, verbs)]
    return "\n\n".join(parts) + "\n"


def scons() -> str:
    """The variables of `scons app=... kmod=...`."""
    kinds = {
        "flag": "`0` `1`", "int": "a number above 0", "path": "a path",
        "list": "words with commas between", "paths": "files with commas between",
        "words": "words, quoted as for a shell",
    }  # fmt: skip
    rows = [
        (
            _code(option.variable + "="),
            _cell(option.help),
            "; ".join(filter(None, (kinds.get(option.kind, ""), _values(option)))),
        )
        for option in options.of_scons()
    ]
    return "\n\n".join(
        [
            "# SCons variables",
            "For `scons app=... kmod=...`. Made from the table that scons itself reads "
            "(`kbridge/options.py`); `scons -h` says the same. For a project's own SConstruct see "
            "[SCons](../scons.md).",
            _table(("variable", "what it does", "values"), rows),
        ]
    )


_COMMENT = re.compile(r"/\*\n(?P<text>(?: \*.*\n)+?) \*/\n|/\* (?P<line>.*) \*/\n")


def _prose(comment: str) -> str:
    """A block comment as paragraphs."""
    lines = [re.sub(r"^ \* ?", "", line) for line in comment.splitlines()]
    return "\n".join(_cell(line) for line in lines)


def c_header() -> str:
    """What runtime/kbridge.h declares, each with the comment that stands above it."""
    text = (ROOT / HEADER).read_text(encoding="utf-8").partition("*/\n")[2]  # after the licence
    found = list(_COMMENT.finditer(text))
    parts = [
        "# C",
        f"`#include <kbridge.h>`, from [{HEADER}](../../{HEADER}). "
        "`kbridge build` and scons find the header by themselves; other build tools ask "
        "pkg-config for `libkbridge` ([Other languages and build tools](../languages.md)).",
        _prose(found[0]["text"] or found[0]["line"]),
    ]
    for comment, after in zip(found[1:], [*found[2:], None], strict=True):
        code = text[comment.end() : after.start() if after else len(text)].partition("#ifdef")[0]
        names = re.findall(r"\b(kb_\w+)\(", code)
        if names:
            parts.append("## " + ", ".join(f"{name}()" for name in names))
            parts.append(f"```c\n{code.strip()}\n```")
            parts.append(_prose(comment["text"] or comment["line"]))
    return "\n\n".join(parts) + "\n"
