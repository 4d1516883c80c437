# SPDX-License-Identifier: GPL-2.0-only
"""From sources to a program: the stages in order.

`kbridge build` runs build(); the SCons tool makes a node of each stage, with the same functions.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import stat
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kbridge import (
    abi,
    debug_info,
    gates,
    imports,
    kcompile,
    kmod_object,
    libkernel,
    link,
    log,
    options,
    pack,
    paths,
    proc,
    progress,
    runtime,
    stack,
)
from kbridge.errors import CommandError, KbridgeError, UsageError
from kbridge.kcompile import Source
from kbridge.kernels import compiler, headers, kbuild, kbuild_file
from kbridge.kernels import image as kernel_image
from kbridge.kernels import target as kernel_target
from kbridge.kernels.kbuild import KbuildFlags
from kbridge.kernels.target import KernelTarget
from kbridge.symbols import choice
from kbridge.symbols import files as files_of
from kbridge.symbols.table import SymbolTable

_CXX = (".cc", ".cpp", ".cxx", ".C", ".c++")
APP_SOURCES = (".c", ".s", ".S", *_CXX)
LINKABLE = (".o", ".a", ".so")
_TEXT = "_text"


@dataclass(frozen=True)
class BuildRequest:
    """What `kbridge build` is asked for; flag strings are already split into words.

    `kbuild` is a Kbuild file, or FILE:MODULE; `allow` are classes of options.REFUSED_CLASSES,
    `stack_limit` is in bytes.
    `choices` say which of several symbols of one name is meant, as symbols/choice.py takes them.
    """

    app: Sequence[Path]
    kmod: Sequence[Path]
    output: Path
    shared: bool = False
    code: str = "pic"
    link: str = "libkernel"
    include: Sequence[Path] = ()
    kcflags: Sequence[str] = ()
    cflags: Sequence[str] = ()
    ldflags: Sequence[str] = ()
    kbuild: str | None = None
    mitigations: str = "keep"
    allow: Sequence[str] = ()
    stack_limit: int = options.STACK_LIMIT
    choices: Sequence[str] = ()
    kernel: str | None = None
    kdir: str | None = None
    debug: bool = False

    @property
    def debug_file(self) -> Path | None:
        """The debug information of the kmod, where it is asked for."""
        name = self.output.name + debug_info.SUFFIX
        return self.output.with_name(name) if self.debug else None


@dataclass(frozen=True)
class Kmod:
    """The files that stand for a kmod in the link, and what the link has to know of it."""

    assembly: Path
    object: Path
    kernel: Path  # link stub or linker script
    description: Path

    @classmethod
    def files(cls, folder: Path, name: str, mode: str) -> Kmod:
        base = folder / name
        kernel = folder / libkernel.SONAME if mode == "libkernel" else folder / f"{name}.lds"
        return cls(
            base.with_name(f"{name}.kb.S"),
            base.with_name(f"{name}.kb.o"),
            kernel,
            base.with_name(f"{name}.kb.json"),
        )

    @property
    def binary(self) -> Path:
        return self.assembly.with_name(self.assembly.name + ".bin")


# -- what can be said before anything runs --


def check_source(path: Path, what: str) -> None:
    """A source must be a file that we may read."""
    try:
        kind = path.stat().st_mode
    except OSError as problem:
        said = "no such" if isinstance(problem, FileNotFoundError) else f"{problem.strerror}:"
        raise UsageError(f"{path}: {said} {what} source", hint="check the path") from problem
    if not stat.S_ISREG(kind):
        raise UsageError(
            f"{path}: a folder or device, and the {what} source has to be a file",
            hint="name the files in it, one by one",
        )
    if not os.access(path, os.R_OK):
        raise UsageError(f"{path}: may not be read", hint=f"chmod +r {shlex.quote(str(path))}")


def refuse_twice(files: Sequence[Path]) -> None:
    twice = [path for index, path in enumerate(files) if path in files[:index]]
    if twice:
        raise UsageError(f"{twice[0]}: given twice", hint="name each file once")


def check(request: BuildRequest, made: Collection[Path] = ()) -> None:
    """Raise UsageError for a request that cannot be right; what is in `made` is yet to be made."""
    check_choices(request)
    if not request.kmod and not request.kbuild:
        hint = "name the kernel-style source: --kmod FILE (scons: kmod=FILE)"
        meant = [path for path in request.app if path.stem.endswith("_kmod")]
        if meant:
            hint = f"did you mean --kmod {meant[0]}? (scons: kmod={meant[0]})"
        raise UsageError("no kmod source", hint=hint)
    if not request.app and not request.shared:
        raise UsageError(
            "no app source",
            hint="name one, or make a library of the kmod alone: --shared (scons: shared=1)",
        )
    refuse_twice(request.app)
    refuse_twice(request.kmod)
    for path in request.app:
        if path not in made:
            check_source(path, "app")
        check_app_kind(path)
    for path in request.kmod:
        check_source(path, "kmod")
        check_kmod_kind(path)


def check_choices(request: BuildRequest) -> None:
    """The command line offers only what there is; a request made by a program says anything."""
    given = {
        "code": [request.code],
        "link": [request.link],
        "mitigations": [request.mitigations],
        "allow": request.allow,
    }
    for option in options.of_verb("build"):
        for word in given.get(option.name, ()):
            if word not in option.choices:
                near = options.nearest(word, option.choices)
                raise UsageError(
                    f"{option.name}={word}: not one of {', '.join(option.choices)}",
                    hint=f"did you mean {near}?" if near else "see kbridge build --help",
                )


def check_app_kind(path: Path) -> None:
    if path.suffix not in (*APP_SOURCES, *LINKABLE):
        raise UsageError(
            f"{path}: not an app source (known: {' '.join((*APP_SOURCES, *LINKABLE))})",
            hint="compile it yourself and give its object",
        )


def check_kmod_kind(path: Path) -> None:
    if path.suffix not in kcompile.KMOD_SUFFIXES:
        raise UsageError(
            f"{path}: not a kmod source: kernel code is C (.c) or assembly (.S)",
            hint="headers are found by #include, in the source's folder and with -I",
        )


# -- stages --


@dataclass(frozen=True)
class KmodSources:
    """All kmod sources with their own flags, and what they are joined to."""

    module: str  # KBUILD_MODNAME
    sources: list[Source]
    ldflags: list[str]


def kmod_sources(request: BuildRequest, target: KernelTarget, flags: KbuildFlags) -> KmodSources:
    """The sources that a Kbuild file lists, and those named; both get the file's flags."""
    name = kcompile.module_name(request.output.stem)
    if request.kbuild is None:
        sources = [Source(path, request.kcflags) for path in request.kmod]
        return KmodSources(name, sources, [])
    file = kbuild_file.read(request.kbuild, target, flags)
    listed = {one.path.resolve() for one in file.sources}
    more = [file.flagged(path) for path in request.kmod if path.resolve() not in listed]
    sources = [replace(one, extra=[*one.extra, *request.kcflags]) for one in (*file.sources, *more)]
    if not sources:
        raise UsageError(
            f"{file.path}: lists no object", hint="name the kmod sources beside it: --kmod FILE"
        )
    return KmodSources(file.module or name, sources, file.ldflags)


def kernel_flags(
    request: BuildRequest, target: KernelTarget, *, compiles: bool = True
) -> KbuildFlags:
    """Kbuild's flags, without those that the request drops.

    Who compiles with them is told of a compiler that is not the kernel's.
    """
    flags = kbuild.flags(target)
    if compiles:
        compiler.compare(target, flags.version)
    if not request.debug:
        flags = kcompile.without_locations(flags)
    return kcompile.without_mitigations(flags) if request.mitigations == "drop" else flags


def app_compiler(app: Sequence[Path]) -> list[str]:
    """The compiler driver that links the app: C++ if one source is."""
    if any(path.suffix in _CXX for path in app):
        return compiler.from_environment("CXX", "g++")
    return compiler.from_environment("CC", "gcc")


def app_command(
    source: Path, output: Path, *, shared: bool, cflags: Sequence[str], include: Sequence[Path]
) -> list[str]:
    """The command that compiles one app source; it also leaves OUTPUT.d for make and SCons."""
    includes = [f"-I{folder}" for folder in (*include, runtime.include_folders()[0])]
    pic = ["-fPIC"] if shared else []
    depend = ["-MMD", "-MF", str(output.with_suffix(".d")), "-MT", str(output)]
    flags = ["-pipe", "-O2", "-g", *pic, *includes, *cflags, *depend]
    return [*app_compiler([source]), *flags, "-c", "-o", str(output), kcompile.as_operand(source)]


def _stub_names(bound: imports.Bound) -> dict[str, bool]:
    """What the link stub has to have: chosen symbols are bound through _text, which also tells
    kelevate of which boot the addresses are."""
    names = {name: kind for name, kind in bound.functions.items() if name not in bound.chosen}
    return {**names, _TEXT: True}


def _binding(
    bound: imports.Bound, table: SymbolTable, mode: str, interface: bytes
) -> gates.Binding:
    base = table.resolve(_TEXT).address
    chosen = sorted(bound.chosen) if mode == "libkernel" else []
    for one in chosen:
        if bound.addresses[one] < base:
            raise KbridgeError(
                f"{one}: a per-CPU variable, of which several cannot be told apart at run time",
                hint="use a name that only one file defines, or link=script",
            )
    zero = {symbol for symbol, address in bound.addresses.items() if not address}
    return gates.Binding(
        table.release,
        table.build_id,
        text_base=base if mode == "script" else 0,
        modules=bound.modules,
        from_text={one: bound.addresses[one] - base for one in chosen},
        zero=zero - set(bound.modules),
        interface=interface,
        interface_digest=abi.digest(table.release, table.build_id, interface),
    )


def generate(
    joined: Path,
    files: Kmod,
    name: str,
    target: KernelTarget,
    mode: str,
    allow: Sequence[str] = (),
    debug: Path | None = None,
    choices: Sequence[str] = (),
    stack_limit: int = options.STACK_LIMIT,
) -> None:
    """From the joined kmod object: image, gates, what binds its kernel names, debug file."""
    image = pack.pack(joined, name, allow=allow)
    table = kernel_image.symbols(target.release)
    if choices:
        table = choice.choose(table, choices, files_of.vmlinux_of(target.release, target.kdir))
    if not image.functions:
        raise KbridgeError(
            f"{name}: the kmod defines no function", hint="write one that is not static"
        )
    stack.check(image, joined, limit=stack_limit, allow=allow)
    exports = headers.exports(target.kdir) or {}
    bound = imports.bind(image, table, headers.of_modules(exports), joined)
    stub = _stub_names(bound)
    if mode == "script":
        paths.write_atomically(files.kernel, link.script(bound.addresses))
    else:
        kernel = {"release": table.release, "build_id": table.build_id}
        libkernel.write_stub(stub, files.kernel, **kernel)
    weak = {entry.name: entry.weak for entry in image.imports}
    # a chosen symbol's place is of this kernel alone, as a script's addresses are
    how = "script" if bound.chosen else mode
    used = abi.encode(abi.record(joined, weak, exports, target, how))
    binding = _binding(bound, table, mode, used)
    lines = {}
    if debug:
        debug_info.write(joined, image, debug)
        lines = debug_info.lines(debug, image)
    gates.write(image, kcompile.module_name(name), binding, files.assembly, lines)
    names = [entry.name for entry in image.imports]
    description = {
        "format": kmod_object.FORMAT,
        "gates": [gate.name for gate in image.gates],
        "no_gate": image.no_gate,
        "imports": names,
        "addresses": [bound.addresses[entry] for entry in names] if mode == "script" else [],
        "from_text": binding.from_text,
        "image_size": image.end,
        "mode": mode,
        "stub": stub,
        "release": table.release,
        "build_id": table.build_id,
    }
    paths.write_atomically(files.description, json.dumps(description, indent=1) + "\n")


def stems(sources: Sequence[Path]) -> list[str]:
    """An object name for each source, also for a/x.c beside b/x.c."""
    names: list[str] = []
    for path in sources:
        name = path.stem
        while name in names:
            name += "_"
        names.append(name)
    return names


def run_all(
    commands: Sequence[Sequence[str]],
    environment: Mapping[str, str],
    known_as: tuple[Path, str] | None = None,
) -> None:
    """Run a stage's commands; what they warn of is passed on.

    `known_as`: a file of ours, and what of the user's it stands for in such warnings.
    """
    for command in commands:
        result = proc.run(command, env={**environment, **kcompile.ENVIRONMENT})
        if result.stderr.strip():
            ours, theirs = known_as or ("\0", "")
            log.passed_on(result.stderr.replace(str(ours), theirs))


def compile_kmod(steps: kcompile.Steps, source: Path, environment: Mapping[str, str]) -> None:
    try:
        run_all(steps.commands, environment, (steps.object, str(source)))
    except CommandError as problem:
        raise kcompile.explain(problem, source) from problem


def join_kmod(
    commands: Sequence[Sequence[str]], environment: Mapping[str, str], output: Path, name: str
) -> None:
    try:
        run_all(commands, environment, (output, name))
    except CommandError as problem:
        raise kcompile.explain_join(problem) from problem


def compile_app(command: Sequence[str], source: Path, environment: Mapping[str, str]) -> None:
    try:
        run_all([command], environment)
    except CommandError as problem:
        if problem.stderr:
            problem.message = f"{source}: does not compile"
            problem.hint = problem.hint or "see the compiler's words above"
        raise


def link_program(
    command: Sequence[str],
    files: Kmod,
    objects: Mapping[Path, str],
    output: Path,
    environment: Mapping[str, str],
) -> None:
    """Link, and read the linked file back; `objects` maps the app's objects to their sources.

    Refuses an app that names a kmod function or variable that has no gate.  An output that is
    not as it should be does not stay.
    """
    known = json.loads(files.description.read_text())
    link.check_app(objects, known["no_gate"])
    try:
        run_all([command], environment)
    except CommandError as problem:
        raise link.explain(problem, known["gates"]) from problem
    with files.binary.open("rb") as stream:
        image = stream.read(known["image_size"])
    try:
        link.verify(output, known["imports"], image, known["addresses"], known["from_text"])
    except KbridgeError:
        output.unlink(missing_ok=True)
        raise


# -- the whole way --


@dataclass(frozen=True)
class _Run:
    request: BuildRequest
    flags: KbuildFlags
    folder: Path
    kmod: KmodSources

    def kmod_object(self, source: Source, stem: str) -> Path:
        request = self.request
        steps = kcompile.source_steps(
            self.flags,
            source,
            self.folder,
            module=self.kmod.module,
            code=request.code,
            include=request.include,
            stem=f"{stem}.kmod",
        )
        compile_kmod(steps, source.path, {})
        return steps.object

    def joined(self) -> Path:
        names = stems([source.path for source in self.kmod.sources])
        objects = list(map(self.kmod_object, self.kmod.sources, names))
        output = self.folder / "joined.o"
        commands = kcompile.join_steps(self.flags, objects, output, self.kmod.ldflags)
        join_kmod(commands, {}, output, self.kmod.module)
        return output

    def app_object(self, source: Path, stem: str) -> Path:
        if source.suffix in LINKABLE:
            return source
        request = self.request
        output = self.folder / f"{stem}.o"
        command = app_command(
            source,
            output,
            shared=request.shared,
            cflags=request.cflags,
            include=request.include,
        )
        compile_app(command, source, {})
        return output

    def link(self, files: Kmod, objects: Mapping[Path, str]) -> Path:
        request = self.request
        output = self.folder / "linked"
        command = link.command(
            app_compiler(request.app),
            [*objects, files.object],
            files.kernel,
            runtime.library(),
            output,
            shared=request.shared,
            ldflags=request.ldflags,
        )
        link_program(command, files, objects, output, {})
        return output


def _reserve(output: Path) -> Path:
    """A temporary file beside the output: says at once when the folder cannot be written."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=output.parent, prefix=f".{output.name}.")
        os.close(handle)
    except OSError as problem:
        raise KbridgeError(
            f"cannot write {output}: {problem.strerror}", hint="choose another output with -o"
        ) from problem
    return Path(name)


def build(request: BuildRequest) -> Path:
    """Build the program or library, whole or not at all, and return its path."""
    with progress.doing(f"building {request.output}"):
        return _build(request)


def _build(request: BuildRequest) -> Path:
    check(request)
    paths.check_output(request.output)
    if request.debug_file:
        paths.check_output(request.debug_file)
    target = kernel_target.find(request.kernel, request.kdir)
    reserved = _reserve(request.output)
    try:
        flags = kernel_flags(request, target)
        sources = kmod_sources(request, target, flags)
        with paths.scratch("kbridge-build-") as folder:
            name = request.output.stem
            run = _Run(request, flags, folder, sources)
            joined = run.joined()
            files = Kmod.files(folder, "kmod", request.link)
            debug = folder / debug_info.SUFFIX if request.debug else None
            how = (request.link, request.allow, debug, request.choices)
            generate(joined, files, name, target, *how, stack_limit=request.stack_limit)
            proc.run(gates.assemble_command(files.assembly, files.object))
            made = map(run.app_object, request.app, stems(request.app))
            app = dict(zip(made, map(str, request.app), strict=True))
            linked = run.link(files, app)
            if debug and request.debug_file:
                paths.write_atomically(request.debug_file, debug.read_bytes())
            _install(linked, reserved, request.output)
    finally:
        reserved.unlink(missing_ok=True)
    log.info(f"built {request.output} for kernel {target.release}")
    return request.output


def _install(linked: Path, reserved: Path, output: Path) -> None:
    try:
        shutil.copyfile(linked, reserved)
        mask = os.umask(0)
        os.umask(mask)
        reserved.chmod(0o777 & ~mask)
        reserved.replace(output)
    except OSError as problem:
        raise KbridgeError(f"cannot write {output}: {problem.strerror}") from problem
