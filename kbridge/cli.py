# SPDX-License-Identifier: GPL-2.0-only
"""The `kbridge` command: arguments to requests, errors to lines and exit statuses.

Imports of verbs are inside the functions that call them, so that --help answers at once.
"""

from __future__ import annotations

import argparse
import errno
import gc
import itertools
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from kbridge import __version__, interrupts, log, options, proc
from kbridge.errors import EXIT_FAILED, KbridgeError, UsageError

EXIT_RUN_FAILED = 125  # of `kbridge run`: its own failure, since lower ones are the program's

_PIECE = 1 << 16  # characters of output that are written at once


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        message = message.replace("PROG, ARGS", "PROG")  # argparse takes ARGS for required
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


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as problem:
        raise argparse.ArgumentTypeError(f"{text!r}: {problem}") from problem


def _add_option(parser: argparse.ArgumentParser, option: options.Option) -> None:
    how: dict[str, Any] = {"dest": option.name.replace("-", "_"), "help": option.help}
    if option.kind == "flag":
        how["action"] = "store_true"
    else:
        how["default"] = option.default
        how["metavar"] = option.metavar or None
        if option.choices:
            how["choices"] = option.choices
        if option.kind == "list":
            how.update(action="append", default=[])
        elif option.kind == "files":
            how.update(action="extend", nargs="+", type=_file, default=[])
        elif option.kind == "int":
            how["type"] = _at_least_1
        elif option.kind == "words":
            how.update(type=_words, default=[])
        elif option.kind == "path":
            how["type"] = _file
    if option.default is not None:
        how["help"] += f" (default: {option.default})"
    parser.add_argument(*option.flags, **how)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="kbridge",
        description="Link ordinary programs against the Linux kernel.",
        epilog="kbridge VERB --help says more about each.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"kbridge {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", parser_class=_Parser)
    for verb in options.VERBS:
        sub = verbs.add_parser(
            verb.name,
            help=verb.help,
            description=verb.help[0].upper() + verb.help[1:] + ".",
            epilog=f"example: {verb.example}",
            allow_abbrev=False,
        )
        for option in options.of_verb(verb.name):
            _add_option(sub, option)
        if verb.name == "build":
            sub.add_argument("app", nargs="*", type=Path, metavar="APP", help="app source")
        elif verb.name in ("run", "elevate"):
            sub.add_argument("program", metavar="PROG", help="a program of this machine")
            sub.add_argument("args", nargs=argparse.REMAINDER, metavar="ARGS", help="its words")
        elif verb.name == "inspect":
            sub.add_argument("inspected", type=Path, metavar="FILE", help="an ELF file")
        elif verb.name == "symbols":
            what = "a name, or a quoted shell pattern: 'vfs_*'"
            sub.add_argument("pattern", nargs="?", metavar="PATTERN", help=what)
        elif verb.name == "symbol":
            sub.add_argument("symbol", metavar="NAME", help="the name of a symbol")
    return parser


def _build(args: argparse.Namespace) -> int:
    from kbridge.verbs import build

    if args.output is None:
        raise UsageError("no output", hint="say what to write: -o FILE")
    request = build.BuildRequest(
        app=args.app,
        kmod=[Path(file) for file in args.kmod],
        output=args.output,
        shared=args.shared,
        code=args.code,
        link=args.link,
        include=[Path(folder) for folder in args.include],
        kcflags=args.kcflags,
        kbuild=args.kbuild,
        mitigations=args.mitigations,
        allow=args.allow,
        stack_limit=args.stack_limit,
        choices=args.symbol,
        cflags=args.cflags,
        ldflags=args.ldflags,
        kernel=args.kernel,
        kdir=args.kdir,
        debug=args.debug,
    )
    build.build(request)
    return 0


def _run(args: argparse.Namespace) -> int:
    from kbridge.verbs import run

    request = run.RunRequest(
        program=args.program,
        args=args.args,
        kernel=args.kernel,
        cpus=args.cpus,
        memory=args.memory,
        timeout=args.timeout,
        append=shlex.join(args.append),
        files=args.file,
        modules=args.module,
        gdb=args.gdb,
        fresh=args.fresh,
        other_build=args.other_build,
        elevate=args.elevate,
        inherit=args.inherit,
        without=args.without,
        count=args.count,
        root=args.root,
        verbose=args.verbose,
        dry_run=args.dry_run,
    )
    return run.run(request)


def _elevate(args: argparse.Namespace) -> int:
    from kbridge.verbs import elevate

    request = elevate.ElevateRequest(
        program=args.program,
        args=args.args,
        inherit=args.inherit,
        without=args.without,
        count=args.count,
    )
    return elevate.elevate(request)


def _adaptors(args: argparse.Namespace) -> int:
    from kbridge.verbs import elevate

    _write(elevate.adaptors(args.json) + "\n")
    return 0


def _gen_libkernel(args: argparse.Namespace) -> int:
    from kbridge.verbs import gen_libkernel

    if args.libkernel is None:
        raise UsageError("no output", hint="say what to write: -o libkernel.so")
    gc.disable()  # some 100,000 strings, none of them in a cycle, and the command ends soon
    request = gen_libkernel.LibkernelRequest(
        output=args.libkernel,
        kernel=args.kernel,
        kdir=args.kdir,
        symbols=args.symbols,
        modules=args.modules,
        only_needed=args.only_needed,
        choices=args.symbol,
        script=args.script,
        verify=args.verify,
        timings=args.timings,
    )
    gen_libkernel.generate(request)
    return 0


def _kelevate(args: argparse.Namespace) -> int:
    from kbridge import kelevate
    from kbridge.kernels import target

    print(kelevate.module(target.find(args.kernel, args.kdir)))
    return 0


def _pkg_config_path(_: argparse.Namespace) -> int:
    from kbridge import pkg_config

    print(pkg_config.folder())
    return 0


def _write(text: str) -> None:
    """In pieces: with PYTHONUNBUFFERED, Python says nothing of a write that a reader cut short."""
    for start in range(0, len(text), _PIECE):
        sys.stdout.write(text[start : start + _PIECE])


def _inspect(args: argparse.Namespace) -> int:
    from kbridge.verbs import inspect

    request = inspect.InspectRequest(args.inspected, args.kernel, args.kdir, args.json)
    _write(inspect.inspect(request))
    return 0


def _kernels(args: argparse.Namespace) -> int:
    from kbridge.verbs import kernels

    shown, problem = kernels.kernels(as_json=args.json)
    _write(shown)
    if problem:
        sys.stdout.flush()
        raise problem
    return 0


def _symbols(args: argparse.Namespace) -> int:
    from kbridge.verbs import symbols

    request = symbols.SymbolsRequest(
        args.pattern, args.kernel, args.kdir, all=args.all, format=args.format
    )
    _write(symbols.symbols(request))
    return 0


def _symbol(args: argparse.Namespace) -> int:
    from kbridge.verbs import symbol

    request = symbol.SymbolRequest(args.symbol, args.kernel, args.kdir, args.json)
    _write(symbol.symbol(request))
    return 0


_ACTIONS: dict[str, Callable[[argparse.Namespace], int]] = {
    "build": _build,
    "run": _run,
    "elevate": _elevate,
    "adaptors": _adaptors,
    "gen-libkernel": _gen_libkernel,
    "kelevate": _kelevate,
    "pkg-config-path": _pkg_config_path,
    "inspect": _inspect,
    "kernels": _kernels,
    "symbols": _symbols,
    "symbol": _symbol,
}


def _nearer(problem: UsageError, argv: Sequence[str]) -> UsageError:
    """Name the option or verb that a mistyped one is near to."""
    verbs = [verb.name for verb in options.VERBS]
    known = [*verbs, "--help", "--version"]
    for verb in verbs:
        if verb in argv:
            known = [flag for option in options.of_verb(verb) for flag in option.flags]
            break
    choice = re.match(r"argument (\S+): invalid choice: '(.*?)' \(", problem.message)
    if choice and choice[1] != "VERB":
        choices = [one.choices for one in options.OPTIONS if "/".join(one.flags) == choice[1]]
        near = options.nearest(choice[2], itertools.chain(*choices))
        if near:
            problem.hint = f"did you mean {near}?"
    if not problem.message.startswith(("unrecognized arguments", "argument VERB")):
        return problem
    for word in argv:
        bare = word.split("=")[0]
        if bare in problem.message and bare not in known:
            near = options.nearest(bare, known)
            if near:
                problem.hint = f"did you mean {near}?"
    return problem


def _dispatch(argv: Sequence[str]) -> int:
    parser = _parser()
    try:
        args = parser.parse_args(argv)
    except UsageError as problem:
        raise _nearer(problem, argv) from problem
    if args.verb is None:
        parser.print_help(sys.stderr)
        raise UsageError("no verb given", hint=f"one of: {', '.join(_ACTIONS)}")
    log.set_verbosity(1 if args.verbose else -1 if args.quiet else 0)
    return _ACTIONS[args.verb](args)


def _status(problem: KbridgeError, running: bool) -> int:
    """`kbridge run` leaves the low statuses to the program."""
    return (
        problem.status if not running or problem.status >= EXIT_RUN_FAILED - 2 else EXIT_RUN_FAILED
    )


def _os_hint(problem: OSError) -> str | None:
    full = (errno.ENOSPC, errno.EDQUOT)
    return "make room there, or choose another place" if problem.errno in full else None


def _end_by(number: int) -> int:
    """End as a program ends that the signal ended, so that a calling shell knows."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    return 128 + number


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit status.  Nothing that the library raises gets past this."""
    words = list(sys.argv[1:] if argv is None else argv)
    running = bool(words) and words[0] in ("run", "elevate")
    proc.open_standard_streams()
    try:
        with interrupts.unwinding(signal.SIGINT, signal.SIGTERM):
            status = _dispatch(words)
        if sys.stdout is not None:
            sys.stdout.flush()
        return status
    except KbridgeError as problem:
        log.error(problem)
        return _status(problem, running)
    except KeyboardInterrupt:
        return _end_by(signal.SIGINT)
    except interrupts.Interrupted as problem:
        return _end_by(problem.number)
    except BrokenPipeError:
        # whoever read our output has gone: nothing more to say to them
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as problem:
        where = problem.filename or "standard output"
        log.error(KbridgeError(f"{where}: {problem.strerror or problem}", hint=_os_hint(problem)))
        return EXIT_RUN_FAILED if running else EXIT_FAILED
