# SPDX-License-Identifier: GPL-2.0-only
"""The parser of the command line, made from the table of options.  Not for doing anything."""

from __future__ import annotations

import argparse
import ast
import itertools
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from kbridge import options, proc
from kbridge.errors import UsageError


class Parser(argparse.ArgumentParser):
    """Raises UsageError instead of ending the program."""

    def print_help(self, file: Any = None) -> None:
        """Raises OSError, which argparse's own keeps to itself."""
        file = file or sys.stdout
        with proc.standard_output():
            file.write(self.format_help())
            file.flush()

    def error(self, message: str) -> NoReturn:
        message = message.replace("PROG, ARGS", "PROG")  # argparse takes ARGS for required
        message = "".join(one if one.isprintable() else repr(one)[1:-1] for one in message)
        raise UsageError(message, hint=f"see {self.prog} --help")


def _at_least_1(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return value


def _file(text: str) -> Path:
    if text.endswith("/"):
        raise argparse.ArgumentTypeError(f"{text!r} is a folder, not a file")
    return Path(text)


def _folder(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("an empty name; the folder here is .")
    return Path(text)


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as problem:
        raise argparse.ArgumentTypeError(f"{text!r}: {problem}") from problem


# what argparse has to know of each kind; lists are copied, since argparse would add to ours
_KINDS: dict[str, dict[str, Any]] = {
    "str": {},
    "flag": {"action": "store_true"},
    "int": {"type": _at_least_1},
    "path": {"type": _file},
    "folder": {"type": _folder},
    "words": {"type": _words, "default": ()},
    "list": {"action": "append", "default": ()},
    "paths": {"action": "append", "type": Path, "default": ()},
    "files": {"action": "extend", "nargs": "+", "type": _file, "default": ()},
}


def _add_option(parser: argparse.ArgumentParser, option: options.Option, verb: str) -> None:
    how: dict[str, Any] = {"dest": option.name.replace("-", "_"), "help": option.help}
    if option.kind != "flag":
        how.update(default=option.default, metavar=option.metavar or None)
    how.update(_KINDS[option.kind])
    if how.get("default") == ():
        how["default"] = []
    if option.kind == "path" and option.default is not None:
        how["default"] = Path(str(option.default))
    if option.choices:
        how["choices"] = option.choices
    if option.default is not None:
        how["help"] += f" (default: {option.default})"
    if option.required:  # _require() looks for it: argparse would, before it names what is mistyped
        how["help"] += " (required)"
    if verb and options.TOP in option.verbs:
        how["default"] = argparse.SUPPRESS  # what was said ahead of the verb holds
    parser.add_argument(*option.flags, **how)


def _add_argument(parser: argparse.ArgumentParser, argument: options.Argument) -> None:
    how: dict[str, Any] = {"metavar": argument.metavar, "help": argument.help}
    if argument.count:
        how["nargs"] = argparse.REMAINDER if argument.count == "rest" else argument.count
    if argument.choices:
        how["choices"] = argument.choices
    if argument.kind == "path":
        how["type"] = Path
    parser.add_argument(argument.name, **how)


def _examples(verb: options.Verb) -> str:
    lines = [f"  # {one.what}\n  {one.line}" for one in verb.examples]
    return "\n".join(["examples:", *lines])


def _overview() -> str:
    """The verbs in their groups."""
    width = max(len(verb.name) for verb in options.VERBS) + 2
    lines = ["Link ordinary programs against the Linux kernel."]
    for group, title in options.GROUPS.items():
        found = [verb for verb in options.VERBS if verb.group == group]
        if not found:
            continue
        lines += ["", f"{title}:", *(f"  {verb.name:<{width}}{verb.help}" for verb in found)]
    return "\n".join(lines)


def parser() -> Parser:
    """The parser of `kbridge`, with one for each verb."""
    top = Parser(
        prog="kbridge",
        usage="kbridge VERB ...",
        description=_overview(),
        epilog="kbridge VERB --help says more about each.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for option in options.of_verb(options.TOP):
        _add_option(top, option, options.TOP)
    verbs = top.add_subparsers(
        dest="verb", metavar="VERB", parser_class=Parser, help=argparse.SUPPRESS
    )  # _overview() lists them
    for verb in options.VERBS:
        sub = verbs.add_parser(
            verb.name,
            help=verb.help,  # for completions
            prog=f"kbridge {verb.name}",
            usage=" ".join([f"kbridge {verb.name}", *options.synopsis(verb)]),
            description=options.sentence(verb.help),
            epilog=_examples(verb),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        for option in options.of_verb(verb.name):
            _add_option(sub, option, verb.name)
        for argument in verb.arguments:
            _add_argument(sub, argument)
    return top


def of_verbs(top: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parsers of the verbs."""
    for action in top._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def verb_in(argv: Sequence[str]) -> str:
    """The verb that these words ask for; TOP for none."""
    return next((word for word in argv if not word.startswith("-")), options.TOP)


_BEHIND = "what is for a verb stands behind it: kbridge VERB"


def _flags_of(verb: str) -> list[str]:
    return [flag for option in options.of_verb(verb) for flag in option.flags]


def _unknown_verb(word: str, argv: Sequence[str]) -> UsageError:
    verbs = [verb.name for verb in options.VERBS]
    near = options.nearest(word, [*verbs, "--help", "--version"])
    hint = f"did you mean {near}?" if near else "kbridge --help lists them"
    early = argv[0].split("=")[0]
    if early not in _flags_of(options.TOP) and any(early in _flags_of(verb) for verb in verbs):
        hint = f"{_BEHIND} {argv[0]} ..."
    return UsageError(f"{word!r}: no such verb", hint=hint)


def _bad_choice(problem: UsageError, of: str, word: str) -> UsageError:
    arguments = itertools.chain(*(verb.arguments for verb in options.VERBS))
    choices = [one.choices for one in options.OPTIONS if "/".join(one.flags) == of]
    choices += [one.choices for one in arguments if one.metavar == of]
    near = options.nearest(word, itertools.chain(*choices))
    if near:
        problem.hint = f"did you mean {near}?"
    return problem


def _nearer(problem: UsageError, argv: Sequence[str]) -> UsageError:
    """Name the option, verb or choice that a mistyped one is near to."""
    choice = re.match(r"argument (\S+): invalid choice: (.*) \(choose from ", problem.message)
    if choice:
        word = ast.literal_eval(choice[2])  # argparse's repr() of it
        verb = choice[1] == "VERB"
        return _unknown_verb(word, argv) if verb else _bad_choice(problem, choice[1], word)
    if not problem.message.startswith("unrecognized arguments"):
        return problem
    verb = verb_in(argv)
    if verb != options.TOP:
        problem.hint = f"see kbridge {verb} --help"
    known = [*_flags_of(verb), "--help"]
    for word in problem.message.split()[2:]:
        bare = word.split("=")[0]
        near = options.nearest(bare, known)
        if bare in known:
            problem.hint = f"{_BEHIND} {word} ..."
        elif near:
            problem.hint = f"did you mean {near}?"
    return problem


def _require(args: argparse.Namespace) -> None:
    for option in options.of_verb(args.verb or options.TOP):
        if option.required and getattr(args, option.name.replace("-", "_")) is None:
            words = f"{option.flags[0]} {option.metavar}"
            raise UsageError(f"no {words} given", hint=f"{words}: {option.help}")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The words as a namespace.  Raises UsageError that names what was likely meant."""
    try:
        args = parser().parse_args(argv)
    except UsageError as problem:
        raise _nearer(problem, argv) from problem
    _require(args)
    return args
