# SPDX-License-Identifier: GPL-2.0-only
"""The stages of a build one by one, for build systems that have rules of their own.

`kbridge cflags`, `pic`, `pack`, `libs` and `link`.  They call what build.py calls; what is here is
only what passes between commands: a stage's file on its own has to say what it is, and for which
kernel.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kbridge import gates, kcompile, kmod_object, libkernel, link, log, paths, proc, runtime
from kbridge.errors import UsageError
from kbridge.kcompile import Source
from kbridge.kernels import headers
from kbridge.kernels import image as kernel_image
from kbridge.kernels import target as kernel_target
from kbridge.kernels.target import KernelTarget
from kbridge.kmod_object import Kind, Object
from kbridge.verbs import build
from kbridge.verbs.build import BuildRequest, Kmod

_WORD = r"(?:\\.|[^\\\s:]|:(?!\s|$))+"
_HEADERS = re.compile(rf"({_WORD}):((?: +{_WORD})*) *(?:\n+{_WORD}: *)*\n*")  # a depfile, -MP
# C++'s names and its library's; Rust's look alike, and end in a hash
_CXX = re.compile(r"(?!_ZN.*17h[0-9a-f]{16}E$)_Z|__cxa_|__gxx_")
# what packing is told, and an object that is packed cannot be
_FOR_PACKING = {
    "debug": "-g",
    "mitigations": "--mitigations",
    "choices": "--symbol",
    "allow": "--allow",
    "stack_limit": "--stack-limit",
}
_OBJECT_MODE, _PROGRAM_MODE = 0o666, 0o777


def _install(made: Path, output: Path, mode: int) -> None:
    """Put a whole file in place, with the rights that a compiler would give it."""
    mask = os.umask(0)
    os.umask(mask)
    paths.make_parent(output)
    paths.write_atomically(output, made.read_bytes(), mode=mode & ~mask)


def _check_output(request: BuildRequest, inputs: Sequence[Path]) -> None:
    paths.check_output(request.output)
    if request.debug_file:
        paths.check_output(request.debug_file)
    _refuse_same(request.output, inputs, "is to be read and written", "-o FILE")


def _refuse_same(path: Path, others: Sequence[Path], what: str, option: str) -> None:
    real = path.resolve()
    if any(one.resolve() == real for one in others):
        raise UsageError(f"{path}: {what}", hint=f"name another file: {option}")


def _name(request: BuildRequest, name: str | None) -> str:
    """What the kernel is to call the image; '/' and the like are for module_name()."""
    return name or request.output.name.partition(".")[0] or "kmod"


# -- one source to one object --


def cflags(request: BuildRequest, name: str | None) -> str:
    """The compiler's flags for a kmod source in C, as one line for a shell."""
    target = kernel_target.find(request.kernel, request.kdir)
    source = Path(f"{name or 'kmod'}.c")
    flags = build.kernel_flags(request, target, compiles=False)
    words = kcompile.compiler_words(flags, Source(source), request.code)
    folders = [f"-I{folder}" for folder in request.include]
    names = kcompile.names(source, kcompile.module_name(source.stem))
    return shlex.join([*words[1:], *names, *folders, *request.kcflags])


def _as_make_has_it(path: Path) -> str:
    """The name of a file in a rule, as compilers write it; without its folder."""
    return re.sub(r"([ \t#])", r"\\\1", path.name.replace("$", "$$"))


def _is_depfile(text: str, source: Path, output: Path) -> bool:
    """Whether that is what a compiler wrote for this source or output, and no Makefile."""
    rules = _HEADERS.fullmatch(text.replace("\\\n", " "))
    if not rules:
        return False
    target, first = rules[1], rules[2].lstrip() + " "
    made, read = (re.escape(_as_make_has_it(path)) for path in (output, source))
    return bool(re.fullmatch(rf"(.*/)?{made}", target) or re.match(rf"({_WORD}/)?{read} ", first))


def _check_depfile(path: Path, source: Path, output: Path) -> None:
    """Refuse to replace what is no depfile of this source."""
    _refuse_same(path, [source], "is to be read and written", "--depfile FILE")
    _refuse_same(path, [output], "the object and its depfile cannot be one", "--depfile FILE")
    if not path.exists():
        return
    if not path.is_file():
        raise UsageError(f"{path}: not a regular file", hint="name another file: --depfile FILE")
    text = path.read_text(errors="replace")
    if text and not _is_depfile(text, source, output):
        raise UsageError(
            f"{path}: is there and no depfile of {source}, so it is not replaced",
            hint="remove it first, or name another file: --depfile FILE",
        )


def pic(request: BuildRequest, name: str | None = None, depfile: Path | None = None) -> None:
    """Compile one kmod source to one object; objtool, too, has done its part there.

    `depfile` gets the headers, as a rule for make.
    """
    (source,) = request.kmod
    build.check_source(source, "kmod")
    build.check_kmod_kind(source)
    _check_output(request, [source])
    if depfile:
        _check_depfile(depfile, source, request.output)
    target = kernel_target.find(request.kernel, request.kdir)
    flags = build.kernel_flags(request, target)
    with paths.scratch("kbridge-pic-") as folder:
        steps = kcompile.source_steps(
            flags,
            Source(source, [*request.kcflags, "-MP"]),
            folder,
            module=kcompile.module_name(_name(request, name)),
            code=request.code,
            include=request.include,
            made_as=request.output,
        )
        mark = kmod_object.mark_command(steps.object, target.release)
        steps = replace(steps, commands=[*steps.commands, mark])
        build.compile_kmod(steps, source, {})
        if depfile:  # first: an object without its rule would count as finished
            _install(steps.dependencies, depfile, _OBJECT_MODE)
        _install(steps.object, request.output, _OBJECT_MODE)


# -- objects to one that a program is linked with --


def _target(request: BuildRequest, objects: Sequence[Object]) -> KernelTarget:
    """The kernel that the objects are for.  They say so; --kernel and --kdir have to agree."""
    releases = {one.release: one.path for one in objects if one.release}
    if len(releases) > 1:
        (first, one), (second, other) = list(releases.items())[:2]
        raise UsageError(
            f"{one} is for kernel {first}, and {other} for {second}",
            hint="compile all of them for one kernel: kbridge pic --kernel RELEASE",
        )
    given = request.kernel or request.kdir or os.environ.get("KDIR")
    said = next(iter(releases), None)
    try:
        target = kernel_target.find(request.kernel if given else said, request.kdir)
    except UsageError as problem:
        if said and not given:  # pic was told where they are
            problem.hint = f"say where they are: --kdir DIR; or {problem.hint}"
        raise
    if said:
        _agree(releases[said], said, target)
    return target


def _agree(path: Path, release: str, target: KernelTarget) -> None:
    if release != target.release:
        raise UsageError(
            f"{path} is for kernel {release}, not {target.release}",
            hint="compile it again, or leave --kernel, --kdir and KDIR out: objects say it",
        )


def _kmod_objects(paths_: Sequence[Path]) -> list[Object]:
    if not paths_:
        raise UsageError("no kmod object", hint="make one: kbridge pic SRC -o OBJ")
    build.refuse_twice(paths_)
    objects = [kmod_object.read(path) for path in paths_]
    for one in objects:
        if one.kind is Kind.OTHER:
            raise UsageError(
                f"{one.path}: not an object", hint="compile it: kbridge pic SRC -o OBJ"
            )
        if one.kind is Kind.PACKED:
            raise UsageError(
                f"{one.path}: already packed", hint="name the objects that it was packed from"
            )
    return objects


def _generate(
    request: BuildRequest, objects: Sequence[Object], folder: Path, name: str
) -> tuple[Kmod, KernelTarget]:
    """Join, pack and assemble kmod objects, as `kbridge build` does."""
    target = _target(request, objects)
    flags = build.kernel_flags(request, target, compiles=False)
    joined = folder / "joined.o"
    commands = kcompile.join_steps(flags, [one.path for one in objects], joined)
    build.join_kmod(commands, {}, joined, name)
    files = Kmod.files(folder, "kmod", request.link)
    debug = folder / "debug" if request.debug else None
    how = (request.link, request.allow, debug, request.choices)
    build.generate(joined, files, name, target, *how, stack_limit=request.stack_limit)
    proc.run(gates.assemble_command(files.assembly, files.object))
    if debug and request.debug_file:
        _install(debug, request.debug_file, _OBJECT_MODE)
    return files, target


def pack(request: BuildRequest, name: str | None = None) -> None:
    """Pack kmod objects (request.kmod) into one that an ordinary link takes."""
    _check_output(request, request.kmod)
    objects = _kmod_objects(request.kmod)
    with paths.scratch("kbridge-pack-") as folder:
        files, target = _generate(request, objects, folder, _name(request, name))
        made = files.object
        if request.link == "script":  # the addresses become part of the object
            made = folder / "addressed.o"
            proc.run(["ld", "-r", "-o", made, files.object, files.kernel])
        proc.run(kmod_object.describe_command(made, files.description))
        _install(made, request.output, _OBJECT_MODE)
    log.info(f"packed {request.output} for kernel {target.release}")


# -- programs --


def libs(request: BuildRequest) -> str:
    """What a program with a packed object is linked with, as one line for a shell."""
    target = kernel_target.find(request.kernel, request.kdir)
    stub = None
    if request.link == "libkernel":
        exports = headers.exports(target.kdir) or {}
        stub = libkernel.cached_stub(
            kernel_image.symbols(target.release), headers.of_modules(exports)
        )
    return shlex.join(link.libraries(stub, runtime.library()))


def _check_app(path: Path) -> None:
    if path.suffix in (*kcompile.KMOD_SUFFIXES, *build.APP_SOURCES):
        raise UsageError(
            f"{path}: a source, and link takes objects",
            hint="compile it: kbridge pic for a kmod source, your own compiler for the app's; "
            "or leave all to kbridge build",
        )


def _refuse_packing(request: BuildRequest, name: str | None, packed: Path, mode: str) -> None:
    """Refuse words that would do nothing, since that is packed."""
    plain = BuildRequest((), (), request.output)
    given = [
        option
        for field, option in _FOR_PACKING.items()
        if getattr(request, field) not in (getattr(plain, field), [])
    ]
    given += ["--name"] if name else []
    given += ["--link"] if request.link not in (plain.link, mode) else []
    if given:
        raise UsageError(
            f"{packed}: already packed, and {given[0]} is for packing",
            hint=f"kbridge pack {given[0]}",
        )


def _packed(
    request: BuildRequest, name: str | None, packed: Object, folder: Path
) -> tuple[Kmod, Path | None]:
    """The files that link_program() reads, from a packed object; and the link stub."""
    known, image = kmod_object.unpack(packed.path)
    _refuse_packing(request, name, packed.path, known["mode"])
    if request.kernel or request.kdir:
        _agree(packed.path, known["release"], kernel_target.find(request.kernel, request.kdir))
    files = replace(Kmod.files(folder, "kmod", request.link), object=packed.path)
    paths.write_atomically(files.description, json.dumps(known))
    paths.write_atomically(files.binary, image)
    if known["mode"] == "script":
        return files, None  # the object has the kernel's addresses
    stub = files.kernel
    libkernel.write_stub(known["stub"], stub, release=known["release"], build_id=known["build_id"])
    return files, stub


def _sorted(objects: Sequence[Object]) -> tuple[list[Object], list[Object]]:
    """The kmod's objects and the app's.  Raises UsageError unless they make one program."""
    packed = [one for one in objects if one.kind is Kind.PACKED]
    kmods = [one for one in objects if one.kind is Kind.KMOD]
    if len(packed) > 1 or (packed and kmods):
        other = (packed + kmods)[1].path
        raise UsageError(
            f"{packed[0].path} and {other}: a program has one packed object",
            hint="pack all kmod objects into one: kbridge pack OBJ... -o OUT.o",
        )
    if not packed and not kmods:
        raise UsageError(
            "no kmod object among them",
            hint="name those of kbridge pic, or one of kbridge pack; objects of other makers "
            "have to be packed first",
        )
    return packed or kmods, [one for one in objects if one.kind in (Kind.APP, Kind.OTHER)]


def _is_cxx(app: Sequence[Object]) -> bool:
    """Whether C++'s driver has to link the app, for its library."""
    return any(_CXX.match(name) for one in app for name in link.undefined(one.path))


def link_objects(request: BuildRequest, name: str | None = None) -> None:
    """Link app objects and kmod objects (both in request.app), and read the result back."""
    build.refuse_twice(request.app)
    for path in request.app:
        _check_app(path)
    _check_output(request, request.app)
    kmods, app = _sorted([kmod_object.read(path) for path in request.app])
    if not app and not request.shared:
        raise UsageError(
            "no app object", hint="name one, or make a library of the kmod alone: --shared"
        )
    with paths.scratch("kbridge-link-") as folder:
        if kmods[0].kind is Kind.PACKED:
            files, kernel = _packed(request, name, kmods[0], folder)
        else:
            files, _ = _generate(request, kmods, folder, _name(request, name))
            kernel = files.kernel
        output = folder / "linked"
        command = link.command(
            build.app_compiler([Path("app.cc")] if _is_cxx(app) else []),
            [*(one.path for one in app), files.object],
            kernel,
            runtime.library(),
            output,
            shared=request.shared,
            ldflags=request.ldflags,
        )
        build.link_program(command, files, {one.path: str(one.path) for one in app}, output, {})
        _install(output, request.output, _PROGRAM_MODE)
    log.info(f"linked {request.output}")
