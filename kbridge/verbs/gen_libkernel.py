# SPDX-License-Identifier: GPL-2.0-only
"""`kbridge gen-libkernel`: a kernel's symbols as libkernel.so and its link stub, or as a script."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kbridge import libkernel, log, needed, paths, pkg_config, progress
from kbridge.errors import KbridgeError, UsageError
from kbridge.libkernel import Library, Origin
from kbridge.paths import Output
from kbridge.symbols import choice, files, source
from kbridge.symbols.source import Kind
from kbridge.symbols.table import Columns, SymbolTable

_TEXT = "_text"


@dataclass(frozen=True)
class LibkernelRequest:
    """What to write, and of which symbols; see the options of the same names."""

    output: Path
    kernel: str | None = None
    kdir: str | None = None
    symbols: Path | None = None
    modules: bool = False
    only_needed: Sequence[Path] = ()
    choices: Sequence[str] = ()
    script: bool = False
    verify: bool = False
    timings: bool = False


class Stages:
    """How long each stage took, in seconds: every lap goes to the stage that ends there."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now

    def __str__(self) -> str:
        rows = [*self.seconds.items(), ("in all", sum(self.seconds.values()))]
        return "\n".join(f"{seconds:8.3f} s  {stage}" for stage, seconds in rows) + "\n"


# -- which symbols --


def _exported(request: LibkernelRequest, symvers: Path) -> SymbolTable:
    """The symbols of a Module.symvers, with the addresses of its kernel's image."""
    from kbridge.kernels import headers
    from kbridge.kernels import image as kernel_image
    from kbridge.kernels import target as targets

    release = request.kernel
    if release is None:
        try:
            release = targets.find(None, str(symvers.parent)).release
        except KbridgeError as problem:
            raise UsageError(
                f"{symvers}: a Module.symvers has no addresses, and does not say whose it is",
                hint="say of which kernel it is: --kernel RELEASE",
            ) from problem
    table = kernel_image.symbols(release)
    exported = headers.exports_in(symvers)
    names = {name for name, one in exported.items() if one.module == "vmlinux"}
    gone = sorted(name for name in names if not table.find(name))
    if gone:
        raise KbridgeError(
            f"{symvers}: kernel {release} has no {gone[0]}, so this is another kernel's",
            hint="say of which kernel it is: --kernel RELEASE",
        )
    columns = Columns.of(table.symbols)
    kept = [i for i, name in enumerate(columns.names) if name in names]
    return SymbolTable(columns.at(kept), table.release, table.build_id, str(symvers))


def _table(request: LibkernelRequest) -> tuple[SymbolTable, Kind]:
    if request.symbols is None:
        if request.modules:
            raise UsageError(
                "--modules goes with --symbols /proc/kallsyms",
                hint="a kernel image knows nothing of modules, which move with every load",
            )
        from kbridge.kernels import image as kernel_image
        from kbridge.kernels import target as targets

        release = targets.find(request.kernel, request.kdir).release
        return kernel_image.symbols(release), Kind.IMAGE
    kind = source.kind(request.symbols)
    if kind is Kind.SYMVERS:
        return _exported(request, request.symbols), kind
    release = request.kernel or ""
    table = source.read(request.symbols, release, with_modules=request.modules)
    if release and table.release != release:
        raise UsageError(
            f"{request.symbols}: of kernel {table.release}, and --kernel says {release}",
            hint="leave --kernel out: the file says whose it is",
        )
    return table, kind


def _chosen(request: LibkernelRequest, table: SymbolTable, kind: Kind) -> SymbolTable:
    if not request.choices:
        return table
    if kind is Kind.IMAGE and request.symbols and files.has_symbols(request.symbols):
        vmlinux: Path | None = request.symbols
    else:
        vmlinux = files.vmlinux_of(table.release) if table.release else None
    return choice.choose(table, request.choices, vmlinux)


@dataclass(frozen=True)
class _Selection:
    """The symbols to write, one for each name, and which of them objects refer to by plain name."""

    symbols: Columns
    plain: Sequence[str] = ()
    left_out: int = 0  # names with several definitions


def _selected(request: LibkernelRequest, table: SymbolTable) -> _Selection:
    all_ = table.resolvable()
    if not request.only_needed:
        return _Selection(all_, left_out=len(table.ambiguous()))
    found = needed.names(request.only_needed, table)
    wanted, others = sorted(found.kernel | found.plain), sorted(found.others)
    if not wanted:
        raise KbridgeError(
            "the files need nothing of the kernel",
            hint="give objects that refer to kernel symbols, before they are linked",
        )
    if others:
        shown = ", ".join(others[:5]) + (", ..." if len(others) > 5 else "")
        log.info(f"left out, for they are not this kernel's: {shown}")
    index = {name: i for i, name in enumerate(all_.names)}
    if _TEXT in index and _TEXT not in wanted:
        wanted.append(_TEXT)  # by it kelevate tells whether the addresses are of this boot
    return _Selection(all_.at([index[name] for name in wanted]), sorted(found.plain))


def _slide(kind: Kind, table: SymbolTable) -> int | None:
    if kind in (Kind.IMAGE, Kind.SYMVERS):
        return 0  # the addresses that the image is linked for
    return libkernel.slide_of_text(Columns.of(table.symbols))


# -- what is written --


def _link_folder(output: Path) -> Path:
    """Where `-lkernel` and pkg-config find the stub."""
    return output.with_name(output.name + ".link")


def _outputs(
    request: LibkernelRequest, libraries: Sequence[tuple[Path, Library]], mode: int, clock: Stages
) -> list[Output]:
    def checked(library: Library) -> Callable[[Path], None]:
        def check(file: Path) -> None:
            clock.lap("write")
            library.compare(file)
            clock.lap("read back")
            if request.verify:
                library.cross_check(file)
                clock.lap("verify with other readers")

        return check

    outputs = []
    for path, library in libraries:
        content = library.content()
        clock.lap("make")
        own = mode if library.absolute else 0o755
        outputs.append(Output(path, content, own, checked(library)))
    return outputs


def _write_link_folder(folder: Path, stub: Path, release: str) -> None:
    folder.mkdir(exist_ok=True)
    paths.replace_link(folder / libkernel.SONAME, Path("..") / stub.name)
    paths.write_atomically(folder / "libkernel.pc", pkg_config.libkernel_pc(release))


def _counted(chosen: _Selection, origin: Origin) -> str:
    said = f"{len(chosen.symbols)} symbols of {origin.source}"
    if chosen.left_out:
        said += f" ({chosen.left_out} names with several definitions left out)"
    return said


def _renames(output: Path, plain: Sequence[str]) -> list[Output]:
    """For objcopy --redefine-syms: references that do not say that they are the kernel's."""
    lines = [f"{name} {name}@{libkernel.VERSION}\n" for name in plain]
    path = output.with_name(output.name + ".redefine-syms")
    return [Output(path, "".join(lines).encode())] if lines else []


def _say_renames(renames: Sequence[Output]) -> None:
    for one in renames:
        log.info(
            "the objects' references do not say that they are the kernel's: "
            f"objcopy --redefine-syms={shlex.quote(str(one.path))} OBJECT"
        )


def _write_files(
    request: LibkernelRequest, chosen: _Selection, origin: Origin, clock: Stages
) -> dict[str, str]:
    output, symbols = request.output, chosen.symbols
    stub = output.with_name(output.name + ".stub")
    folder = _link_folder(output)
    exports = libkernel.exports(symbols)
    libraries = [
        (output, Library(exports, origin, absolute=True)),
        (stub, Library(exports, origin, absolute=False)),
    ]
    mode = 0o755 if origin.slide == 0 else libkernel.SECRET
    renames = _renames(output, chosen.plain)
    paths.write_together([*_outputs(request, libraries, mode, clock), *renames])
    _write_link_folder(folder, stub, origin.release)
    clock.lap("write")
    log.info(f"wrote {output} (for ld.so) and {stub} (for ld): {_counted(chosen, origin)}")
    log.info(f"link with: -L {shlex.quote(str(folder))} -lkernel (or pkg-config libkernel there)")
    _say_renames(renames)
    return {"stub": str(stub), "link_folder": str(folder)}


def _write_script(
    request: LibkernelRequest, chosen: _Selection, origin: Origin, clock: Stages
) -> dict[str, str]:
    text = libkernel.script(chosen.symbols, origin)
    clock.lap("make")
    mode = 0o644 if origin.slide == 0 else libkernel.SECRET
    renames = _renames(request.output, chosen.plain)
    paths.write_together([Output(request.output, text.encode(), mode), *renames])
    clock.lap("write")
    log.info(f"wrote {request.output}: {_counted(chosen, origin)}")
    if origin.slide == 0:
        log.info("its addresses are those of a kernel without KASLR (nokaslr)")
    _say_renames(renames)
    return {}


def _check_outputs(request: LibkernelRequest) -> None:
    output = request.output
    if request.script:
        paths.check_output(output, libkernel.SCRIPT_START.encode())
        return
    paths.check_output(output)
    paths.check_output(output.with_name(output.name + ".stub"))
    folder = _link_folder(output)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: is there and no folder", hint="remove it first")


def generate(request: LibkernelRequest) -> dict[str, str | int]:
    """Write the run-time file OUTPUT, the link stub OUTPUT.stub and the folder OUTPUT.link, or
    with `script` the linker script OUTPUT: the libraries read back and compared, or nothing.

    Returns what was written, in words for JSON.
    """
    _check_outputs(request)
    clock = Stages()
    table, kind = _table(request)
    clock.lap("read the symbols")
    table = _chosen(request, table, kind)
    chosen = _selected(request, table)
    origin = Origin(table.release, table.build_id, Path(table.origin).name, _slide(kind, table))
    clock.lap("choose")
    paths.make_parent(request.output)
    write = _write_script if request.script else _write_files
    with progress.doing(f"writing {request.output}"):
        more = write(request, chosen, origin, clock)
    if request.timings:
        log.passed_on(str(clock))
    return {
        "output": str(request.output),
        **more,
        "kernel": origin.release,
        "build_id": origin.build_id,
        "source": table.origin,
        "symbols": len(chosen.symbols),
        "left_out": chosen.left_out,
    }
