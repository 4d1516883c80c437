# SPDX-License-Identifier: GPL-2.0-only
"""Man pages (mdoc(7)) and the table of exit statuses, made from the table of options.

python -m kbridge.manual > docs/exit-statuses.md
"""

from __future__ import annotations

import os
import re
import sys
import textwrap
import time
from collections.abc import Iterator
from typing import Any

from kbridge import options, templates
from kbridge.errors import UsageError

_SUMMARY = "link ordinary programs against the Linux kernel"
_MORE = (
    "A program has two parts: an app, with user headers and libc, and a kmod, with kernel "
    "headers, types, macros, inline functions and any symbol of the kernel. A call from the one to "
    "the other is an ordinary C call.",
    "The result is an ordinary ELF executable or library. It runs where its kernel is: on a "
    "machine with the kelevate module loaded, or in a throw-away virtual machine.",
)
_ENVIRONMENT = (
    ("KBRIDGE_CACHE", "where kbridge keeps what it made or fetched: by default kbridge in "
     "XDG_CACHE_HOME, or in ~/.cache"),
    ("KBRIDGE_PARAMS", "parameters of the kmods of a program that is run: size=4 myapp.debug=1"),
    ("KBRIDGE_CONSOLE_LOG", "a file that gets all that the kernel of a virtual machine says"),
    ("KBRIDGE_QEMU_CPU", "the processor that QEMU emulates: a model, as for its -cpu"),
    ("KDIR", "kernel header folder, where neither --kernel nor --kdir is given"),
    ("ARCH, CROSS_COMPILE, LLVM", "as for Kbuild: which compiler makes kernel code"),
    ("CC, CXX", "compilers of apps"),
    ("TMPDIR", "where temporary folders are made"),
    ("NO_COLOR", "if set and not empty: no colours"),
)  # fmt: skip


def _words(text: str) -> str:
    """Text for a macro's arguments, or as it is typed."""
    text = text.replace("\\", r"\e").replace("-", r"\-")
    return r"\&" + text if text[:1] in (".", "'") else text


def _line(text: str) -> str:
    return text.replace("\\", r"\e")


def _text(text: str) -> str:
    """Running text: a sentence a line, as roff has it, and none that starts like a macro."""
    sentences = re.split(r"(?<=[a-z)]\.) (?=[A-Z])", text.replace("\\", r"\e"))
    fill = textwrap.TextWrapper(78, break_long_words=False, break_on_hyphens=False)
    lines = [line for one in sentences for line in fill.wrap(one)]
    return "\n".join(r"\&" + one if one[:1] in (".", "'") else one for one in lines)


def _flags(option: options.Option) -> str:
    """`-o FILE`, `-g , --debug`: the words of an .It."""
    value = options.value_of(option)
    told = f" Ar {_words(value)}" if value else ""
    return " , ".join(f"Fl {_words(flag[1:])}{told}" for flag in option.flags)


def _macro(word: str) -> str:
    """A word of the synopsis, in brackets or not."""
    bare = word.strip("[]")
    call = ".Op " if bare != word else "."
    if not bare.startswith("-"):
        return f"{call}Ar {_words(bare)}"
    flag, _, value = bare.partition(" ")
    return f"{call}Fl {_words(flag[1:])} Ar {_words(value)}"


def _synopsis(verb: options.Verb) -> str:
    return "\n".join(map(_macro, options.synopsis(verb)))


def _page_of(verb: options.Verb) -> dict[str, Any]:
    return {
        "page": f"kbridge-{verb.name}",
        "command": f"kbridge {verb.name}",
        "title": verb.help,
        "synopsis": [_synopsis(verb)],
        "paragraphs": [options.sentence(verb.help), *verb.more],
        "arguments": verb.arguments,
        "options": options.of_verb(verb.name),
        "statuses": options.statuses_of(verb.name),
        "examples": verb.examples,
        "others": ["kbridge"],
    }


def _page_of_all() -> dict[str, Any]:
    groups = [
        (title, [verb for verb in options.VERBS if verb.group == group])
        for group, title in options.GROUPS.items()
    ]
    return {
        "page": "kbridge",
        "command": "kbridge",
        "title": _SUMMARY,
        "synopsis": [".Ar VERB\n.Op Ar OPTION ..."],
        "paragraphs": _MORE,
        "groups": groups,
        "options": options.of_verb(options.TOP),
        "environment": _ENVIRONMENT,
        "others": sorted(f"kbridge-{verb.name}" for verb in options.VERBS),
    }


# What a page may go without.
_SECTIONS: dict[str, Any] = dict.fromkeys(
    ("arguments", "environment", "examples", "groups", "others", "paragraphs", "statuses"), ()
)


def _date() -> time.struct_time:
    told = os.environ.get("SOURCE_DATE_EPOCH", "")
    try:
        return time.gmtime(int(told) if told else None)
    except (ValueError, OverflowError, OSError) as problem:
        raise UsageError(
            f"SOURCE_DATE_EPOCH={told!r}: no number of seconds since 1970",
            hint='unset it, or: export SOURCE_DATE_EPOCH="$(date +%s)"',
        ) from problem


def pages() -> Iterator[tuple[str, str]]:
    """Each man page: the name of its file, and its text.

    Its date is that of SOURCE_DATE_EPOCH, so that packages can be built again byte by byte.
    """
    now = _date()
    date = f"{time.strftime('%B', now)} {now.tm_mday}, {now.tm_year}"
    environment = templates.environment(trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(
        words=_words, line=_line, text=_text, flags=_flags, sentence=options.sentence
    )
    template = environment.get_template("man.1.j2")
    for page in (_page_of_all(), *map(_page_of, options.VERBS)):
        # --allow names its choices in its help
        listed = [one.name for one in page["options"] if one.choices and one.choices[0] in one.help]
        yield f"{page['page']}.1", template.render({**_SECTIONS, **page}, date=date, listed=listed)


def exit_statuses() -> str:
    """docs/exit-statuses.md."""
    lines = [
        "# Exit statuses",
        "",
        "They stay as they are: scripts may rely on them. Made from `kbridge/options.py` by "
        "`python -m kbridge.manual`.",
        "",
        "| status | verbs | meaning |",
        "|---|---|---|",
    ]
    every = {verb.name for verb in options.VERBS}
    running = ", ".join(f"`{name}`" for name in options.RUNNING)
    for one in options.STATUSES:
        verbs = {
            len(every): "all",
            len(every) - len(options.RUNNING): f"all but {running}",
        }.get(len(one.verbs), ", ".join(f"`{name}`" for name in one.verbs))
        lines.append(f"| {one.status} | {verbs} | {options.sentence(one.meaning)} |")
    lines += [
        "",
        "Every status but 0 comes with a line on standard error that says why, and mostly with one "
        "that says what to do next; PROG's own status comes with PROG's words alone.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(exit_statuses())
