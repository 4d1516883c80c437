# SPDX-License-Identifier: GPL-2.0-only
"""What each verb does with the parsed command line: a request to its module in verbs/, and what
that returns to standard output.

Imports of verbs are inside the functions that call them, so that --help answers at once.
"""

from __future__ import annotations

import argparse
import gc
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from kbridge import __version__, paths, proc

_PIECE = 1 << 16  # characters of output that are written at once

_Request = TypeVar("_Request")


def _request(kind: type[_Request], args: argparse.Namespace, **other: Any) -> _Request:
    """A request whose fields are named as the options are; `other` are those that are not."""
    named = {one.name for one in fields(kind)} - set(other)  # type: ignore[arg-type]
    given = {name: value for name, value in vars(args).items() if name in named}
    return kind(**given, **other)


def _write(text: str) -> int:
    """In pieces: with PYTHONUNBUFFERED, Python says nothing of a write that a reader cut short."""
    with proc.standard_output():
        for start in range(0, len(text), _PIECE):
            sys.stdout.write(text[start : start + _PIECE])
    return 0


def _write_json(found: Any) -> int:
    return _write(json.dumps(found, indent=1, default=str) + "\n")


def _write_words(line: str, as_json: bool) -> int:
    """A line for a shell, or its words for those who have none."""
    return _write_json(shlex.split(line)) if as_json else _write(line + "\n")


def _version(_: argparse.Namespace) -> int:
    return _write(f"kbridge {__version__}\n")


def _makefile(_: argparse.Namespace) -> int:
    from kbridge import makefile

    return _write(makefile.as_include(makefile.file()) + "\n")


def _build(args: argparse.Namespace) -> int:
    from kbridge.verbs import build

    request = _request(build.BuildRequest, args, choices=args.symbol)
    output = build.build(request)
    if not args.json:
        return 0
    from kbridge.kernels import target

    release = target.find(args.kernel, args.kdir).release
    return _write_json({"output": output, "debug": request.debug_file, "kernel": release})


def _stage(args: argparse.Namespace, **files: Sequence[Path]) -> Any:
    """A build request of what one stage is told: each has but some of the options."""
    from kbridge.verbs import build

    other: dict[str, Any] = {"app": (), "kmod": (), "choices": (), "output": Path("kmod")}
    given = {"choices": args.symbol} if "symbol" in args else {}
    given |= {"output": args.output} if "output" in args else {}
    return _request(build.BuildRequest, args, **{**other, **given, **files})


def _cflags(args: argparse.Namespace) -> int:
    from kbridge.verbs import stages

    return _write_words(stages.cflags(_stage(args), args.name), args.json)


def _pic(args: argparse.Namespace) -> int:
    from kbridge.verbs import stages

    stages.pic(_stage(args, kmod=[args.source]), args.name, args.depfile)
    return 0


def _pack(args: argparse.Namespace) -> int:
    from kbridge.verbs import stages

    stages.pack(_stage(args, kmod=args.objects), args.name)
    return 0


def _libs(args: argparse.Namespace) -> int:
    from kbridge.verbs import stages

    line = stages.libs(_stage(args))
    if args.words is None:
        return _write_words(line, args.json)
    paths.check_output(args.words, b"-Wl,")
    paths.make_parent(args.words)
    paths.write_atomically(args.words, line + "\n")
    return _write_json({"output": args.words}) if args.json else 0


def _link(args: argparse.Namespace) -> int:
    from kbridge.verbs import stages

    stages.link_objects(_stage(args, app=args.objects), args.name)
    return 0


def _compile_commands(args: argparse.Namespace) -> int:
    from kbridge.verbs import compile_commands

    compile_commands.write(_request(compile_commands.CompileCommandsRequest, args))
    return 0


def _containerfile(args: argparse.Namespace) -> int:
    from kbridge.verbs import containerfile

    request = _request(containerfile.ContainerfileRequest, args, output=args.containerfile)
    containerfile.write(request)
    return 0


def _run(args: argparse.Namespace) -> int:
    from kbridge.verbs import run

    append = shlex.join(args.append)
    other = {"append": append, "files": args.file, "modules": args.module}
    return run.run(_request(run.RunRequest, args, **other))


def _elevate(args: argparse.Namespace) -> int:
    from kbridge.verbs import elevate

    return elevate.elevate(_request(elevate.ElevateRequest, args))


def _adaptors(args: argparse.Namespace) -> int:
    from kbridge.verbs import elevate

    return _write(elevate.adaptors(args.json) + "\n")


def _gen_libkernel(args: argparse.Namespace) -> int:
    from kbridge.verbs import gen_libkernel

    gc.disable()  # some 100,000 strings, none of them in a cycle, and the command ends soon
    request = _request(gen_libkernel.LibkernelRequest, args, choices=args.symbol)
    made = gen_libkernel.generate(request)
    return _write_json(made) if args.json else 0


def _kelevate(args: argparse.Namespace) -> int:
    from kbridge import kelevate
    from kbridge.kernels import target

    kernel = target.find(args.kernel, args.kdir)
    made = kelevate.module(kernel)
    if args.json:
        return _write_json({"module": made, "kernel": kernel.release})
    return _write(f"{made}\n")


def _pkg_config_path(args: argparse.Namespace) -> int:
    from kbridge import pkg_config
    from kbridge.kernels import target

    folders = [pkg_config.folder()]
    if args.libkernel or args.kernel or args.kdir:
        folders.append(pkg_config.libkernel_folder(target.find(args.kernel, args.kdir)))
    if args.json:
        return _write_json({"folders": folders})
    return _write(":".join(map(str, folders)) + "\n")


def _cmake_dir(args: argparse.Namespace) -> int:
    folder = paths.source("templates", "cmake")
    return _write_json({"folder": folder}) if args.json else _write(f"{folder}\n")


def _inspect(args: argparse.Namespace) -> int:
    from kbridge.verbs import inspect

    request = _request(inspect.InspectRequest, args, file=args.inspected)
    return _write(inspect.inspect(request))


def _kernels(args: argparse.Namespace) -> int:
    from kbridge.verbs import kernels

    shown, problem = kernels.kernels(as_json=args.json)
    _write(shown)
    if problem:
        with proc.standard_output():
            sys.stdout.flush()
        raise problem
    return 0


def _symbols(args: argparse.Namespace) -> int:
    from kbridge.verbs import symbols

    other = {"format": "json"} if args.json else {}
    return _write(symbols.symbols(_request(symbols.SymbolsRequest, args, **other)))


def _symbol(args: argparse.Namespace) -> int:
    from kbridge.verbs import symbol

    return _write(symbol.symbol(_request(symbol.SymbolRequest, args, name=args.symbol)))


def _doctor(args: argparse.Namespace) -> int:
    from kbridge.verbs import doctor

    return doctor.doctor(_request(doctor.DoctorRequest, args))


def _new(args: argparse.Namespace) -> int:
    from kbridge.verbs import new

    new.new(_request(new.NewRequest, args))
    return 0


def _completion(args: argparse.Namespace) -> int:
    from kbridge import completion

    return _write(completion.script(args.shell))


def _man(args: argparse.Namespace) -> int:
    from kbridge.verbs import man

    man.man(args.pages)
    return 0


# of verbs, and of the options that stand for one; what each returns is an exit status
ACTIONS: dict[str, Callable[[argparse.Namespace], int]] = {
    "build": _build,
    "cflags": _cflags,
    "pic": _pic,
    "pack": _pack,
    "libs": _libs,
    "link": _link,
    "compile-commands": _compile_commands,
    "containerfile": _containerfile,
    "run": _run,
    "elevate": _elevate,
    "adaptors": _adaptors,
    "gen-libkernel": _gen_libkernel,
    "kelevate": _kelevate,
    "pkg-config-path": _pkg_config_path,
    "cmake-dir": _cmake_dir,
    "inspect": _inspect,
    "kernels": _kernels,
    "symbols": _symbols,
    "symbol": _symbol,
    "doctor": _doctor,
    "new": _new,
    "completion": _completion,
    "man": _man,
    "--makefile": _makefile,
    "--version": _version,
}
