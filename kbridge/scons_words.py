# SPDX-License-Identifier: GPL-2.0-only
"""What an SConstruct writes behind env.KBridgeProgram( and its like, checked, as a build takes it.

An SConstruct is Python: any word may be misspelt and any value of any type.  Whether files are
there, and which values a word may have, is said by the build itself (verbs/build.py).
"""

from __future__ import annotations

import reprlib
import shlex
from collections.abc import Callable, Collection, Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

from SCons.Node import Node
from SCons.Node.FS import Base, Dir
from SCons.Util import flatten

from kbridge import options
from kbridge.errors import UsageError
from kbridge.verbs.build import BuildRequest

# what the methods take by themselves
_APART = ("app", "kmod", "output")
KNOWN = tuple(field.name for field in fields(BuildRequest) if field.name not in _APART)
# called otherwise, since one option is one choice
_OPTION_NAMES = {"choices": "symbol"}
_WORDS_OF_OPTIONS = {option: word for word, option in _OPTION_NAMES.items()}


def path_of(node: Any) -> Path:
    """Relative to the folder of the SConstruct, where commands run; str(node) is relative to that
    of the SConscript that is being read."""
    return Path(node.get_path(node.fs.Top))


def refuse_unknown(method: str, given: Iterable[str], known: Iterable[str]) -> None:
    names = list(known)
    for name in given:
        if name not in names:
            near = _WORDS_OF_OPTIONS.get(name) or options.nearest(name, names)
            hint = f"did you mean {near}=?" if near else f"known: {', '.join(names) or 'none'}"
            raise UsageError(f"{method}: unknown word {name}=", hint=hint)


def _wrong(name: str, value: Any, needed: str) -> UsageError:
    said = str(value) if isinstance(value, (str, Path, Node)) else reprlib.repr(value)
    return UsageError(f"{name}={said}: not {needed}", hint="see docs/scons.md")


def _each(given: Any) -> list[Any]:
    """What may be one thing, a list of them, or a list of lists; None is nothing."""
    return [one for one in flatten([given]) if one is not None]


# -- files --


def _node(make: Callable[[Any], Any], name: str, value: Any, needed: str) -> Any:
    """The node that a string, path or node stands for, made by env.File or env.Dir."""
    if not isinstance(value, (str, Path, Base)) or not str(value):
        raise _wrong(name, value, needed)
    try:
        node = make(value if isinstance(value, Base) else str(value))
    except TypeError as problem:  # known to SCons as the other of file and folder
        raise _wrong(name, value, needed) from problem
    return node


def target(env: Any, method: str, given: Any, make: Callable[[Any], Any] | None = None) -> Any:
    """The node of the file to make."""
    found = _each(given)
    if len(found) != 1:
        said = "no file to make is named" if not found else f"{len(found)} files to make, not one"
        raise UsageError(f"{method}: {said}", hint=f'name it first: env.{method}("FILE", ...)')
    if isinstance(found[0], Dir):
        raise _wrong("target", found[0], "a file to make")
    return _node(make or env.File, "target", found[0], "a file to make")


def library(env: Any, method: str, given: Any) -> Any:
    """The node of lib/libx.so where lib/x is named, which may well be a folder."""
    node = target(env, method, given, env.Entry)
    (named,) = _each(given)
    if str(named).rpartition("/")[2] in ("", "#", ".", ".."):
        raise _wrong("target", named, "a file to make")
    return node if node.name.endswith(".so") else node.dir.File(f"lib{node.name}.so")


def sources(env: Any, name: str, given: Any, made: Any) -> list[Any]:
    """Files as an SConstruct names them (relative to the folder of its SConscript), or nodes that
    other builders returned; a source in a variant folder is the one that the user wrote.

    `made` is what is made of them.
    """
    found = []
    for one in _each(given):
        is_folder = isinstance(one, Dir) or (
            isinstance(one, (str, Path)) and Path(env.Dir(".").srcnode().abspath, one).is_dir()
        )
        if is_folder and str(one):
            raise UsageError(
                f"{one}: a folder, and a source has to be a file", hint="name its files"
            )
        node = _node(env.File, name, one, "a file, or a list of files")
        if node == made:
            raise UsageError(
                f"{one}: would be replaced by the program made of it", hint="name another target"
            )
        found.append(node if node.has_builder() else node.srcnode())
    return found


def _folder(env: Any, name: str, given: Any) -> Path:
    return path_of(_node(env.Dir, name, given, "a folder").srcnode())


def _kbuild(env: Any, given: Any) -> str:
    """FILE or FILE:MODULE."""
    file, colon, module = given.partition(":") if isinstance(given, str) else (given, "", "")
    node = _node(env.File, "kbuild", file, "a Kbuild file")
    return f"{path_of(node.srcnode())}{colon}{module}"


# -- other words --


def _flag(name: str, given: Any) -> bool:
    if str(given) not in ("True", "False", "0", "1", ""):
        raise _wrong(name, given, "True or False")
    return str(given) in ("True", "1")


def _number(name: str, given: Any) -> int:
    digits = str(given)
    if not (isinstance(given, (int, str)) and digits.isdecimal() and int(digits)):
        raise _wrong(name, given, "a whole number above 0")
    return int(digits)


def _word(name: str, given: Any) -> str:
    if not isinstance(given, str):
        raise _wrong(name, given, "a string")
    return given


def _listed(name: str, given: Any, split: Callable[[str], list[str]]) -> list[str]:
    """A string is split as scons NAME=... would; in a list each is one word."""
    if isinstance(given, str):
        return split(given)
    found = []
    for one in _each(given):
        if not isinstance(one, (str, Path, Base)):
            raise _wrong(name, one, "a word, or a list of words")
        found.append(str(path_of(one) if isinstance(one, Base) else one))
    return found


def _shell_words(name: str, given: Any) -> list[str]:
    try:
        return _listed(name, given, shlex.split)
    except ValueError as problem:
        raise UsageError(f"{name}={given}: {problem}", hint="close the quotation") from problem


def _between_commas(name: str, given: Any) -> list[str]:
    return _listed(name, given, lambda words: [word for word in words.split(",") if word])


_BY_KIND: dict[str, Callable[[str, Any], Any]] = {
    "str": _word,
    "flag": _flag,
    "int": _number,
    "words": _shell_words,
    "list": _between_commas,
}


def kind_of(name: str) -> str:
    """Of the option whose value a word is."""
    called = _OPTION_NAMES.get(name, name).replace("_", "-")
    return next(one.kind for one in options.of_verb("build") if one.name == called)


def _value(env: Any, name: str, given: Any) -> Any:
    kind = kind_of(name)
    if kind == "paths":
        return [_folder(env, name, one) for one in _each(given)]
    if name == "kdir":
        return str(_folder(env, name, given))
    if name == "kbuild":
        return _kbuild(env, given)
    return _BY_KIND[kind](name, given)


def further(
    env: Any, method: str, given: dict[str, Any], without: Collection[str] = ()
) -> dict[str, Any]:
    """The words beside target and sources, as BuildRequest has them; None is as if not given."""
    refuse_unknown(method, given, [name for name in KNOWN if name not in without])
    return {name: _value(env, name, one) for name, one in given.items() if one is not None}
