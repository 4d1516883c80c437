# SPDX-License-Identifier: GPL-2.0-only
"""The SCons tool: the stages of a build as nodes, so that only what changed is done again.

    from kbridge import scons_tool
    env = Environment(tools=[scons_tool.generate])
    env.KBridgeProgram("build/myapp", app=["myapp.c"], kmod=["mydynpriv.c"])

The stages themselves are those of `kbridge build` (verbs/build.py).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from SCons.Action import Action
from SCons.Errors import UserError
from SCons.Scanner import Scanner
from SCons.Script import ARGUMENTS
from SCons.Tool import CScanner
from SCons.Variables import Variables

import kbridge.bundled  # noqa: F401  first: it says where the rest is looked for
from kbridge import gates, kcompile, link, log, options, paths, runtime, scons_words
from kbridge.errors import KbridgeError
from kbridge.kernels import image as images
from kbridge.kernels import kbuild
from kbridge.kernels import target as kernel_target
from kbridge.scons_words import path_of
from kbridge.verbs import build, compile_commands

# stages that run no other program
_NO_COMMANDS = ("GATES",)
# modules of ours that decide what is in the generated files
_PACKING = (
    "abi", "callbacks", "debug_info", "gates", "imports", "libkernel", "link", "pack", "prototypes",
    "residue", "sections", "stack", "stackwalk",
)  # fmt: skip
# headers there change with packages, not with the project
_SYSTEM_FOLDERS = (Path("/usr/include"), Path("/usr/lib"))
# what compilers and Kbuild take from the environment; SCons passes nothing on by itself
_ENVIRONMENT = ("PATH", "HOME", "TMPDIR", "ARCH", "CROSS_COMPILE", "LLVM", "CC", "CXX", "KDIR")
_OF_LAUNCHERS = ("CCACHE_", "DISTCC_", "SCCACHE_")


# -- scons app=... kmod=... --


def _as_user_error(problem: KbridgeError) -> UserError:
    hint = f"\nkbridge: hint: {problem.hint}" if problem.hint else ""
    return UserError(problem.message + hint)


def _validator(option: options.Option) -> Callable[[str, str, Any], None]:
    def check(key: str, value: str, _env: Any) -> None:
        words = value.split(",") if option.kind == "list" else [value]
        for word in words if option.choices else ():
            if word not in option.choices and (word or option.default):
                near = options.nearest(word, option.choices)
                meant = f"; did you mean {near}?" if near else ""
                raise UserError(f"{key}={word}: not one of {', '.join(option.choices)}{meant}")
        if option.variable == "name" and "/" in value:
            raise UserError(f"name={value}: a name, not a path; out= is the folder")
        if option.kind == "flag" and value not in ("", "0", "1"):
            raise UserError(f"{key}={value}: not 0 or 1")
        if option.kind == "int" and not (value.isdigit() and int(value)):
            raise UserError(f"{key}={value}: not a whole number above 0")
        if option.kind == "words":
            try:
                shlex.split(value)
            except ValueError as problem:
                raise UserError(f"{key}={value}: {problem}") from problem

    return check


def variables(arguments: dict[str, str]) -> Variables:
    """The variables of the command line; an unknown one is an error that names the nearest."""
    known = {option.variable: option for option in options.of_scons()}
    for name in arguments:
        if name not in known:
            near = options.nearest(name, known)
            meant = f"did you mean {near}=?" if near else f"known: {', '.join(known)}"
            raise UserError(f"unknown variable {name}=\nkbridge: hint: {meant}")
    found = Variables(None, arguments)
    for name, option in known.items():
        found.Add(name, option.help, str(option.default or ""), _validator(option))
    return found


def help_text() -> str:
    """What scons -h prints: the variables, from the table of options."""
    lines = ["scons app=myapp.c kmod=mydynpriv.c    build build/myapp\n"]
    for option in options.of_scons():
        choices = f" ({'|'.join(option.choices)})" if option.choices else ""
        default = f" [{option.default}]" if option.default else ""
        lines.append(f"  {option.variable + '=':<10}{option.help}{choices}{default}")
    return "\n".join(lines) + "\n"


@contextlib.contextmanager
def errors_as_lines() -> Iterator[None]:
    """For the SConstruct of scons app=... kmod=...: usage errors without a place in our code."""
    try:
        yield
    except UserError as problem:
        message, _, hint = str(problem).partition("\nkbridge: hint: ")
        log.error(KbridgeError(message, hint=hint or "scons -h lists the variables"))
        sys.exit(2)


def program_from_variables(env: Any) -> Any:
    """The nodes that `scons app=... kmod=...` asks for."""
    apps, kmods = _listed(env, "app"), _listed(env, "kmod")
    kbuild_file = _from_launch(env, env["kbuild"]) if env.get("kbuild") else None
    if not apps and not kmods and not kbuild_file:
        raise UserError("nothing to build\nkbridge: hint: scons app=myapp.c kmod=mydynpriv.c")
    shared = env.get("shared", "") == "1"
    database = _from_launch(env, compile_commands.NAME)
    name = env.get("name") or _name([*apps, *kmods], kbuild_file)
    folder = Path(_from_launch(env, env["out"]))
    _keep_state_in(env, folder)
    output = folder / (name + (".so" if shared else ""))
    program = env.KBridgeProgram(
        str(output),
        app=apps,
        kmod=kmods,
        shared=shared,
        kbuild=kbuild_file,
        allow=[name for name in env.get("allow", "").split(",") if name],
        choices=[words for words in env.get("symbol", "").split(",") if words],
        **{key: env[key] or None for key in ("kernel", "kdir", "code", "link", "mitigations")},
        debug=env.get("debug", "") == "1",
        stack_limit=int(env["stack_limit"]),
        **{key: shlex.split(env[key]) for key in ("kcflags", "cflags", "ldflags")},
    )
    return env.KBridgeCompileCommands(database) if env.get("compiledb") == "1" else program


def _name(sources: Sequence[str], kbuild_file: str | None) -> str:
    """Of the program: that of its first source, or of the folder of its Kbuild file."""
    return Path(sources[0]).stem if sources else Path(kbuild_file or "").absolute().parent.name


def _keep_state_in(env: Any, folder: Path) -> None:
    """Leave nothing in the folder of the SConstruct; say at once when `folder` is read-only."""
    try:
        state = folder / ".kbridge"
        state.mkdir(parents=True, exist_ok=True)
        if not os.access(state, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as problem:
        raise UserError(
            f"cannot write to {folder}: {problem.strerror}\n"
            "kbridge: hint: choose another folder with out="
        ) from problem
    env.SConsignFile(str(state / "sconsign"))
    # not by time stamps: two edits within a second would be one
    env.Decider("content")


def _listed(env: Any, key: str) -> list[str]:
    return [_from_launch(env, path) for path in env.get(key, "").split(",") if path]


def _from_launch(env: Any, path: str) -> str:
    """A path as the user typed it, seen from the folder of the SConstruct."""
    return os.path.relpath(os.path.join(env.GetLaunchDir(), path), env.Dir("#").abspath)


# -- env.KBridgeProgram --


@dataclass(frozen=True)
class _Plan:
    env: Any
    request: build.BuildRequest
    target: kernel_target.KernelTarget
    flags: kbuild.KbuildFlags
    folder: Path
    name: str
    kmod: build.KmodSources
    compiled: list[Path]  # sources of the app's objects that other builders make


class _Stage:
    """What an SCons action calls: a stage of the library; errors become lines and a status."""

    def __init__(
        self, label: str, commands: Sequence[Sequence[str]], work: Callable[[], None]
    ) -> None:
        self.label = label
        self.commands = commands
        self.work = work

    def __call__(self, target: Any, source: Any, env: Any) -> int:  # noqa: ARG002
        try:
            self.work()
        except KbridgeError as problem:
            log.error(problem)
            return problem.status
        except OSError as problem:
            log.error(KbridgeError(f"{problem.filename or self.label}: {problem.strerror}"))
            return 1
        return 0

    def digest(self) -> str:
        """Changes with the commands."""
        return hashlib.sha256(json.dumps([self.label, *self.commands]).encode()).hexdigest()

    def say(self, target: Any, source: Any, env: Any) -> str:  # noqa: ARG002
        """One word and the target, or with V=1 the commands."""
        if env.get("V", "") == "1" and self.label not in _NO_COMMANDS:
            return "\n".join(shlex.join(command) for command in self.commands)
        return f"  {self.label:<8}{target[0]}"


def _environment(plan: _Plan) -> dict[str, str]:
    """What the SConstruct gives to commands."""
    return {name: str(value) for name, value in plan.env["ENV"].items()}


def _node(
    plan: _Plan,
    outputs: Sequence[Path],
    sources: Sequence[Any],
    label: str,
    commands: Sequence[Sequence[str]],
    work: Callable[[], None] | None = None,
    scanner: Any = None,
    folders: Sequence[Path] = (),
) -> Any:
    """`scanner` finds what the sources include, in `folders` among others."""
    stage = _Stage(label, commands, work or (lambda: build.run_all(commands, _environment(plan))))
    how = {"source_scanner": scanner, "CPPPATH": _from_top(folders)} if scanner else {}
    # of a callable object SCons compares the byte code only, and the variables in varlist
    action = Action(stage, stage.say, varlist=["KBRIDGE_STAGE"])
    how["KBRIDGE_STAGE"] = stage.digest()
    return plan.env.Command(_from_top(outputs), _from_top(sources), action, **how)


def _from_top(files: Sequence[Any]) -> list[Any]:
    """Paths as SCons takes them in the SConscript of any folder; nodes stay as they are."""

    def named(path: Path) -> str:
        return str(path) if path.is_absolute() else f"#{path}"

    return [named(one) if isinstance(one, Path) else one for one in files]


def _headers(source: Path, depfile: Path, kernel: Sequence[Path]) -> Any:
    """Finds the headers of a source: #include lines in the user's own folders, and what gcc -MMD
    said of the last compilation beyond them.  Kernel headers are left to the flags' fingerprint.

    The lines alone have to do where nothing was compiled yet: by them a CacheDir is searched.
    """
    start = os.path.abspath(source)  # without "..", as SCons has it

    def scan(node: Any, env: Any, path: Any = ()) -> list[Any]:
        found = list(CScanner(node, env, path))
        if node.abspath != start:
            return found
        try:
            words = depfile.read_text().replace("\\\n", " ").split(":", 1)[1]
        except (OSError, IndexError):
            return found
        seen = {entry.abspath for entry in found} | {node.abspath}
        for word in shlex.split(words):
            file = Path(word).absolute()
            inside = any(folder in file.parents for folder in kernel)
            if not inside and str(file) not in seen and file.is_file():
                found.append(env.File(str(file)))
        return found

    return Scanner(scan, path_function=CScanner.path_function, recursive=True)


def _named_folders(flags: Sequence[str]) -> list[Path]:
    """The folders of -I DIR and -IDIR."""
    pairs = zip(flags, [*flags[1:], ""], strict=False)
    named = [after if word == "-I" else word[2:] for word, after in pairs if word[:2] == "-I"]
    return list(map(Path, named))


def _kernel_folders(flags: kbuild.KbuildFlags) -> list[Path]:
    named = [Path(word[2:]) for word in flags.compile if word.startswith("-I/")]
    return [Path(flags.kdir), *named, paths.source("kernel")]


def _kmod_object(plan: _Plan, source: kcompile.Source, stem: str) -> Any:
    request = plan.request
    steps = kcompile.source_steps(
        plan.flags,
        source,
        plan.folder,
        module=plan.kmod.module,
        code=request.code,
        include=request.include,
        stem=f"{stem}.kmod",
    )

    def work() -> None:
        build.compile_kmod(steps, source.path, _environment(plan))

    made = [steps.object, steps.dependencies]
    scanner = _headers(source.path, steps.dependencies, _kernel_folders(plan.flags))
    folders = [*request.include, source.path.parent, *_named_folders(source.extra)]
    nodes = _node(plan, made, [source.path], "KCC", steps.commands, work, scanner, folders)
    plan.env.Depends(nodes, [str(path) for path in kbuild.dependencies(plan.target)])
    plan.env.Depends(nodes, str(paths.source("kernel", "pic.h")))
    plan.env.Depends(nodes, plan.env.Value(plan.flags.version))
    plan.env.Precious(nodes[1])  # read before it is made again
    return nodes[0]


def _app_object(plan: _Plan, source: Path, stem: str) -> Any:
    if source.suffix in build.LINKABLE:
        return plan.env.File(*_from_top([source]))
    request = plan.request
    output = plan.folder / f"{stem}.o"
    command = build.app_command(
        source, output, shared=request.shared, cflags=request.cflags, include=request.include
    )

    def work() -> None:
        build.compile_app(command, source, _environment(plan))

    made = [output, output.with_suffix(".d")]
    scanner = _headers(source, made[1], _SYSTEM_FOLDERS)
    folders = [*request.include, *_named_folders(request.cflags)]
    nodes = _node(plan, made, [source], "CC", [command], work, scanner, folders)
    plan.env.Precious(nodes[1])
    return nodes[0]


def _kmod_nodes(plan: _Plan, objects: Sequence[Any]) -> tuple[build.Kmod, list[Any]]:
    request = plan.request
    joined = plan.folder / "joined.o"
    made_before = list(map(path_of, objects))
    commands = kcompile.join_steps(plan.flags, made_before, joined, plan.kmod.ldflags)

    def join() -> None:
        build.join_kmod(commands, _environment(plan), joined, plan.name)

    joined_node = _node(plan, [joined], objects, "KLD", commands, join)
    files = build.Kmod.files(plan.folder, "kmod", request.link)

    def generate() -> None:
        how = (request.link, request.allow, request.debug_file, request.choices)
        limit = request.stack_limit
        build.generate(joined, files, plan.name, plan.target, *how, stack_limit=limit)

    made = [files.assembly, files.binary, files.kernel, files.description]
    made += [request.debug_file] if request.debug_file else []
    what = [[plan.name, plan.target.release, request.link, str(request.debug), *request.allow]]
    what[0] += [*request.choices, str(request.stack_limit)]
    nodes = _node(plan, made, joined_node, "GATES", what, generate)
    for source in _PACKING:
        plan.env.Depends(nodes, str(Path(__file__).with_name(f"{source}.py")))
    plan.env.Depends(nodes, str(paths.source("templates", "gates.S.j2")))
    plan.env.Depends(nodes, [str(path) for path in kbuild.dependencies(plan.target)])
    plan.env.Depends(nodes, plan.env.Value(_image_identity(plan)))
    assemble = gates.assemble_command(files.assembly, files.object)
    object_ = _node(plan, [files.object], nodes[:2], "AS", [assemble])
    return files, [object_, nodes[2], nodes[3]]


def _image_identity(plan: _Plan) -> str:
    """Changes when another build of the kernel image takes the place of the one linked against."""
    if plan.env.GetOption("clean"):
        return ""
    image = images.find(plan.target.release).vmlinuz
    status = image.stat()
    return f"{image} {status.st_size} {status.st_mtime_ns}"


def _program(plan: _Plan, files: build.Kmod, kmod: Sequence[Any], app: dict[Path, str]) -> Any:
    request = plan.request
    library = runtime.library()
    command = link.command(
        build.app_compiler([*request.app, *plan.compiled]),
        [*app, files.object],
        files.kernel,
        library,
        request.output,
        shared=request.shared,
        ldflags=request.ldflags,
    )

    def work() -> None:
        build.link_program(command, files, app, request.output, _environment(plan))

    sources = [*app, *kmod, library]
    made = _node(plan, [request.output], sources, "LD", [command], work)
    # scons -c: also what earlier builds left, with another link= or debug=, or other sources
    debug_file = replace(request, debug=True).debug_file
    plan.env.Clean(made, _from_top([plan.folder, debug_file]))
    return made


# of every program that the SConscripts ask for
_entries: list[compile_commands.Entry] = []


def kbridge_compile_commands(env: Any, target: Any = None, **how: Any) -> Any:
    """env.KBridgeCompileCommands(): compile_commands.json for all programs of the project, also
    those that are named after it.
    """
    method = "KBridgeCompileCommands"
    named = compile_commands.NAME if target is None else target
    try:
        scons_words.refuse_unknown(method, how, ["target"])
        database = path_of(scons_words.target(env, method, named))
    except KbridgeError as problem:
        raise _as_user_error(problem) from problem

    def write(target: Any, source: Any, env: Any) -> int:  # noqa: ARG001
        try:
            compile_commands.merge(database, _entries)
        except KbridgeError as problem:
            log.error(problem)
            return problem.status
        return 0

    node = env.Command(_from_top([database]), [], Action(write, f"  DB      {database}"))
    env.Precious(node)  # what it says of other sources stays
    return env.AlwaysBuild(node)


def _plan(env: Any, output: Path, app: Sequence[Any], kmod: Sequence[Any], how: Any) -> _Plan:
    """What is to be done; raises KbridgeError for what cannot be."""
    request = build.BuildRequest(list(map(path_of, app)), list(map(path_of, kmod)), output, **how)
    build.check(request, made=[path_of(node) for node in app if node.has_builder()])
    found = kernel_target.find(request.kernel, request.kdir)
    flags = build.kernel_flags(request, found)
    return _Plan(
        env,
        request,
        found,
        flags,
        output.parent / ".kbridge" / output.name,
        output.stem,
        build.kmod_sources(request, found, flags),
        [path_of(source) for node in app for source in node.sources],
    )


def _nodes_of(plan: _Plan) -> Any:
    """The stages, one after the other; the node of the program."""
    sources = plan.kmod.sources
    stems = build.stems([source.path for source in sources])
    objects = [
        _kmod_object(plan, source, stem) for source, stem in zip(sources, stems, strict=True)
    ]
    files, nodes = _kmod_nodes(plan, objects)
    app = plan.request.app
    compiled = {
        path_of(_app_object(plan, source, stem)): str(source)
        for source, stem in zip(app, build.stems(app), strict=True)
    }
    return _program(plan, files, nodes, compiled)


def _made(env: Any, node: Any, app: Any, kmod: Any, how: dict[str, Any]) -> Any:
    """The program that `node` is to be, of what an SConstruct gave."""
    apps = scons_words.sources(env, "app", app, node)
    kmods = scons_words.sources(env, "kmod", kmod, node)
    with contextlib.chdir(env.Dir("#").abspath):  # in which the commands will run, too
        plan = _plan(env, path_of(node), apps, kmods, how)
        _entries.extend(compile_commands.entries(plan.request, plan.target, plan.flags, plan.kmod))
        return _nodes_of(plan)


def kbridge_program(
    env: Any, target: Any = None, app: Any = None, kmod: Any = None, **how: Any
) -> Any:
    """env.KBridgeProgram(TARGET, app=[...], kmod=[...]): an executable, or with shared=True a
    library.  Further words: code, link, kernel, kdir, include, kcflags, cflags, ldflags, kbuild,
    mitigations, allow, choices, debug, stack_limit.

    `app` may hold sources, and objects that the environment's own builders make of them.
    """
    method = "KBridgeProgram"
    try:
        node = scons_words.target(env, method, target)
        return _made(env, node, app, kmod, scons_words.further(env, method, how))
    except KbridgeError as problem:
        raise _as_user_error(problem) from problem


def kbridge_library(
    env: Any, target: Any = None, kmod: Any = None, app: Any = None, **how: Any
) -> Any:
    """env.KBridgeLibrary("build/x", kmod=[...]): build/libx.so; more words as of KBridgeProgram."""
    method = "KBridgeLibrary"
    try:
        node = scons_words.library(env, method, target)
        given = scons_words.further(env, method, how, without=["shared"])
        return _made(env, node, app, kmod, {**given, "shared": True})
    except KbridgeError as problem:
        raise _as_user_error(problem) from problem


def generate(env: Any) -> None:
    """Add KBridgeProgram and KBridgeLibrary to an SCons environment."""
    for name in os.environ:
        if name in _ENVIRONMENT or name.startswith(_OF_LAUNCHERS):
            env["ENV"][name] = os.environ[name]
    env.SetDefault(V=ARGUMENTS.get("V", ""))
    env.AddMethod(kbridge_program, "KBridgeProgram")
    env.AddMethod(kbridge_compile_commands, "KBridgeCompileCommands")
    env.AddMethod(kbridge_library, "KBridgeLibrary")


def exists(_env: Any) -> bool:
    return True
