# SPDX-License-Identifier: GPL-2.0-only
"""The `kbridge` command: from its words to an action, from errors to lines and exit statuses."""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
from collections.abc import Sequence

from kbridge import interrupts, log, options, parser, proc
from kbridge.actions import ACTIONS
from kbridge.errors import EXIT_FAILED, KbridgeError, UsageError

EXIT_RUN_FAILED = 125  # of verbs that run programs: kbridge's own failure


def _chosen(args: argparse.Namespace) -> str | None:
    """The verb, or the option that stands for one."""
    for option in options.of_verb(options.TOP):
        if option.flags[-1] in ACTIONS and getattr(args, option.name):
            return option.flags[-1]
    return None if args.verb is None else str(args.verb)


def _dispatch(argv: Sequence[str]) -> int:
    args = parser.parse(argv)
    chosen = _chosen(args)
    if chosen is None:
        parser.parser().print_help(sys.stderr)
        names = ", ".join(verb.name for verb in options.VERBS)
        raise UsageError("no verb given", hint=f"one of: {names}")
    log.set_verbosity(1 if args.verbose else -1 if args.quiet else 0)
    return ACTIONS[chosen](args)


def _status(problem: KbridgeError, running: bool) -> int:
    """Verbs that run a program leave the low statuses to it."""
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
    running = parser.verb_in(words) in options.RUNNING
    proc.open_standard_streams()
    try:
        with interrupts.unwinding(signal.SIGINT, signal.SIGTERM):
            status = _dispatch(words)
        with proc.standard_output():
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
        said = problem.strerror or str(problem)
        where = f"{problem.filename}: " if problem.filename else ""
        log.error(KbridgeError(f"{where}{said}", hint=_os_hint(problem)))
        return EXIT_RUN_FAILED if running else EXIT_FAILED
